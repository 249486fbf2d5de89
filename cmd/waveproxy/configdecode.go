package main

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/waveproxy/waveproxy/ratelimit"
)

// decoder fills a Config from YAML values. It exists because the library's own
// strict mode names neither the key of a bad value nor the path of an unknown
// one, and quotes values, of which some are secrets.
type decoder struct {
	source   string // of the value: a file or an environment variable
	problems problems
}

func (d *decoder) problem(n *yaml.Node, key, format string, args ...any) {
	at := d.source
	if n != nil && n.Line > 0 {
		at = fmt.Sprintf("%s:%d", at, n.Line)
	}
	if key != "" {
		at += ": " + key
	}
	d.problems = append(d.problems, fmt.Errorf("%s: %s", at, fmt.Sprintf(format, args...)))
}

// parse returns the one document in text, nil if there is none.
func (d *decoder) parse(text []byte) *yaml.Node {
	var document, more yaml.Node
	y := yaml.NewDecoder(bytes.NewReader(text))
	switch err := y.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil && strings.Contains(err.Error(), "unknown anchor"):
		// The library quotes the value, which may be a password.
		d.problem(nil, "", "a value that begins with * must be quoted")
		return nil
	case err != nil:
		d.problem(nil, "", "%v", err)
		return nil
	}
	if err := y.Decode(&more); !errors.Is(err, io.EOF) {
		d.problem(&more, "", "more than one YAML document")
	}
	return document.Content[0]
}

// decode stores the value n of the key in v.
func (d *decoder) decode(key string, n *yaml.Node, v reflect.Value) {
	if n.ShortTag() == "!!null" {
		return
	}
	switch kind := v.Kind(); {
	case isSection(v):
		fields := fieldsOf(v)
		d.mapping(key, n, func(name, path string, k, value *yaml.Node) {
			if field, ok := fields[name]; ok {
				d.decode(path, value, field)
			} else {
				d.problem(k, path, "unknown key, want one of %s", strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
			}
		})
	case kind == reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		d.mapping(key, n, func(name, path string, _, value *yaml.Node) {
			element := reflect.New(v.Type().Elem()).Elem()
			d.decode(path, value, element)
			v.SetMapIndex(reflect.ValueOf(name), element)
		})
	case v.Type() == reflect.TypeFor[oneOrMore]() && n.Kind == yaml.ScalarNode:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		d.scalar(key, n, v.Index(0))
	case kind == reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			d.problem(n, key, "want a list")
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
		for i, value := range n.Content {
			d.decode(fmt.Sprintf("%s[%d]", key, i), value, v.Index(i))
		}
	default:
		d.scalar(key, n, v)
	}
}

func (d *decoder) mapping(key string, n *yaml.Node, each func(name, path string, k, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		d.problem(n, key, "want keys with values")
		return
	}
	seen := map[string]bool{}
	for i := 0; i < len(n.Content); i += 2 {
		k := n.Content[i]
		path := strings.TrimPrefix(key+"."+withoutUser(k.Value), ".")
		if seen[k.Value] {
			d.problem(k, path, "given twice")
		}
		seen[k.Value] = true
		each(k.Value, path, k, n.Content[i+1])
	}
}

// scalar never quotes a string: it may be a secret.
func (d *decoder) scalar(key string, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.ScalarNode || n.Style&yaml.TaggedStyle != 0 || n.Anchor != "" {
		d.problem(n, key, "want a single value; one that begins with *, &, ! or another special character must be quoted")
		return
	}
	if v.Kind() == reflect.String {
		v.SetString(n.Value)
		return
	}
	// Not by the library: it takes 1.5 for a whole number.
	var err error
	var want string
	switch to := v.Addr().Interface().(type) {
	case *bool:
		*to, err = strconv.ParseBool(n.Value)
		want = "true or false"
	case *int:
		*to, err = strconv.Atoi(n.Value)
		want = "a whole number"
	case *time.Duration:
		*to, err = time.ParseDuration(n.Value)
		want = "a duration such as 36h or 90m"
	case *ratelimit.Rate:
		err = to.UnmarshalText([]byte(n.Value))
		want = "a rate such as 600/m, or 0 for none"
	case *size:
		err = to.UnmarshalText([]byte(n.Value))
		want = "a size such as 32MiB, 10MB or 4096"
	default:
		panic("configuration key " + key + " has a type without a text form")
	}
	if err != nil {
		d.problem(n, key, "%q is not %s", n.Value, want)
	}
}

const envPrefix = "WAVEPROXY_"

// foreignEnv are variables that are not keys: those of the commands and tests,
// and those Kubernetes sets in every pod beside a Service named waveproxy.
var foreignEnv = regexp.MustCompile(`^WAVEPROXY_(SERVER|LOGIN|CONFIG|FUSION_RELEASES|REQUIRE_ENGINES)=` +
	`|_SERVICE_HOST=|_SERVICE_PORT(_[A-Z0-9_]+)?=[0-9]+$` +
	`|_PORT(_[0-9]+_(TCP|UDP|SCTP))?=(tcp|udp|sctp)://|_PORT_[0-9]+_(TCP|UDP|SCTP)_(ADDR|PORT|PROTO)=`)

func (d *decoder) environment(env map[string]string, c *Config) {
	keys := map[string]setting{}
	for _, s := range settings("", reflect.ValueOf(c).Elem()) {
		keys[s.variable()] = s
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		s, known := keys[name]
		d.source = name
		switch kind := s.value.Kind(); {
		case !strings.HasPrefix(name, envPrefix):
		case !known && !foreignEnv.MatchString(name+"="+env[name]):
			d.problem(nil, "", "unknown variable: no key of the configuration has this name")
		case !known || env[name] == "":
		case kind == reflect.Map || kind == reflect.Slice:
			if n := d.parse([]byte(env[name])); n != nil {
				d.decode(s.key, n, s.value)
			}
		default:
			d.scalar(s.key, &yaml.Node{Kind: yaml.ScalarNode, Value: env[name]}, s.value)
		}
	}
}

// setting is a key that holds a value: a scalar, a list or a map.
type setting struct {
	key   string // "http.tls.key"
	value reflect.Value
}

func (s setting) variable() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
}

// settings lists the keys of a section and of the sections in it.
func settings(prefix string, section reflect.Value) []setting {
	var list []setting
	for name, v := range fieldsOf(section) {
		if isSection(v) {
			list = append(list, settings(prefix+name+".", v)...)
		} else {
			list = append(list, setting{prefix + name, v})
		}
	}
	return list
}

// fieldsOf returns the fields of a struct by their key.
func fieldsOf(v reflect.Value) map[string]reflect.Value {
	fields := map[string]reflect.Value{}
	for i := range v.NumField() {
		if v.Type().Field(i).Anonymous { // inline
			maps.Copy(fields, fieldsOf(v.Field(i)))
			continue
		}
		fields[v.Type().Field(i).Tag.Get("yaml")] = v.Field(i)
	}
	return fields
}

// isSection tells structs with keys from those that are values.
func isSection(v reflect.Value) bool {
	_, value := v.Interface().(encoding.TextMarshaler)
	return v.Kind() == reflect.Struct && !value
}

// secret is a password or key. Formatted, logged or encoded it is *** or, if
// it is not set, empty; string(s) is the value.
type secret string

func (s secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// Format keeps the value out of every fmt verb, %#v and %d included.
func (s secret) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// MarshalText serves YAML, JSON and slog.
func (s secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// location is a file or URL. Printed it has no query, where storages put secrets.
type location string

func (l location) String() string {
	if before, _, found := strings.Cut(string(l), "?"); found && isURL(string(l)) {
		return before + "?***"
	}
	return string(l)
}

func (l location) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// oneOrMore is a list that can be written as its one element.
type oneOrMore []location

// size is a number of bytes, written as 4096, 10MB or 32MiB.
type size int64

var units = []struct {
	name  string
	bytes size
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"kB", 1e3}, {"B", 1}, {"", 1},
}

func (s *size) UnmarshalText(text []byte) error {
	for _, unit := range units {
		number, ok := strings.CutSuffix(string(text), unit.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil {
			return err
		}
		*s = size(n) * unit.bytes
		if *s/unit.bytes != size(n) {
			return strconv.ErrRange
		}
		return nil
	}
	return strconv.ErrSyntax
}

// String uses the unit that makes the shortest text.
func (s size) String() string {
	text := strconv.FormatInt(int64(s), 10)
	for _, unit := range units {
		if t := strconv.FormatInt(int64(s/unit.bytes), 10) + unit.name; s%unit.bytes == 0 && s != 0 && len(t) < len(text) {
			text = t
		}
	}
	return text
}

func (s size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
