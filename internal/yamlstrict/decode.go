package yamlstrict

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// OneOrMore is implemented by slices that may be written as their one element.
type OneOrMore interface{ OneOrMore() }

// Decoder fills structs and collects what is wrong. The zero Decoder is ready. It
// is not safe for concurrent use.
type Decoder struct {
	source    string   // of the value in hand
	sources   []string // all of them
	positions map[string]Position
	problems  []*Problem
	failed    []string // keys whose values were not understood
}

// Decode stores the YAML document of a source in the struct that into points to.
// A key without a value keeps what the struct has. Err tells what went wrong.
func (d *Decoder) Decode(source string, text []byte, into any) {
	d.from(source)
	if n := d.parse(text); n != nil {
		d.decode("", n, reflect.ValueOf(into).Elem())
	}
}

func (d *Decoder) from(source string) {
	d.source = source
	d.sources = append(d.sources, source)
	if d.positions == nil {
		d.positions = map[string]Position{}
	}
}

// fail reports a value that was not understood.
func (d *Decoder) fail(n *yaml.Node, key, format string, args ...any) {
	d.problem(n, key, format, args...)
	d.failed = append(d.failed, key)
}

func (d *Decoder) problem(n *yaml.Node, key, format string, args ...any) {
	at := Position{Source: d.source}
	if n != nil {
		at.Line = n.Line
	}
	d.problems = append(d.problems, &Problem{at, key, fmt.Sprintf(format, args...)})
}

// parse returns the one document in text, or nil if there is none.
func (d *Decoder) parse(text []byte) *yaml.Node {
	var document, more yaml.Node
	y := yaml.NewDecoder(bytes.NewReader(text))
	switch err := y.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil && strings.Contains(err.Error(), "unknown anchor"):
		// The library quotes the value, which may be a password.
		d.fail(nil, "", "a value that begins with * must be quoted")
		return nil
	case err != nil:
		d.fail(nil, "", "%v", err)
		return nil
	}
	if err := y.Decode(&more); !errors.Is(err, io.EOF) {
		d.problem(&more, "", "more than one YAML document")
	}
	return document.Content[0]
}

// decode stores the value n of the key in v.
func (d *Decoder) decode(key string, n *yaml.Node, v reflect.Value) {
	if n.ShortTag() == "!!null" {
		return
	}
	switch kind := v.Kind(); {
	case isSection(v.Type()):
		d.section(key, n, v)
	case isText(v.Type()):
		d.scalar(key, n, v)
	case kind == reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		d.mapping(key, n, func(name, path string, _, value *yaml.Node) {
			element := reflect.New(v.Type().Elem()).Elem()
			d.decode(path, value, element)
			v.SetMapIndex(reflect.ValueOf(name).Convert(v.Type().Key()), element)
		})
	case kind == reflect.Slice && n.Kind == yaml.ScalarNode && v.Type().Implements(reflect.TypeFor[OneOrMore]()):
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		d.scalar(key, n, v.Index(0))
	case kind == reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			d.fail(n, key, "want a list")
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
		for i, value := range n.Content {
			item := fmt.Sprintf("%s[%d]", key, i)
			d.positions[item] = Position{d.source, value.Line}
			d.decode(item, value, v.Index(i))
		}
	default:
		d.scalar(key, n, v)
	}
}

func (d *Decoder) section(key string, n *yaml.Node, v reflect.Value) {
	fields := Fields(v)
	d.mapping(key, n, func(name, path string, k, value *yaml.Node) {
		if field, ok := fields[name]; ok {
			d.decode(path, value, field)
		} else {
			d.fail(k, path, "unknown key, want one of %s", strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
		}
	})
}

func (d *Decoder) mapping(key string, n *yaml.Node, each func(name, path string, k, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, key, "want keys with values")
		return
	}
	seen := map[string]bool{}
	for i := 0; i < len(n.Content); i += 2 {
		k := n.Content[i]
		path := strings.TrimPrefix(key+"."+HideUser(k.Value), ".")
		if seen[k.Value] {
			d.problem(k, path, "given twice")
		}
		seen[k.Value] = true
		d.positions[path] = Position{d.source, k.Line}
		each(k.Value, path, k, n.Content[i+1])
	}
}

// HideIn returns an error's text in which the value, as it is or quoted, has no user and
// no query.
func HideIn(text, value string) string {
	hidden := HideUser(value)
	if hidden == value {
		return text
	}
	return strings.ReplaceAll(strings.ReplaceAll(text, strconv.Quote(value), strconv.Quote(hidden)), value, hidden)
}

// scalar never quotes a string, because it may be a secret. A type with a text
// form quotes for itself, and what it quotes has no user and no query.
func (d *Decoder) scalar(key string, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.ScalarNode || n.Style&yaml.TaggedStyle != 0 || n.Anchor != "" {
		d.fail(n, key, "want a single value; one that begins with *, &, ! or another special character must be quoted")
		return
	}
	if text, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := text.UnmarshalText([]byte(n.Value)); err != nil {
			d.fail(n, key, "%s", HideIn(err.Error(), n.Value))
		}
		return
	}
	// Not by the library, which takes 1.5 for a whole number.
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
	default:
		v.SetString(n.Value) // panics for a type that has no text form
	}
	if err != nil {
		d.fail(n, key, "%q is not %s", HideUser(n.Value), want)
	}
}
