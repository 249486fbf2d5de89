package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/waveproxy/waveproxy/internal/yamlstrict"
)

// Secret is a password or key. Formatted, logged or encoded it is *** or, if it
// is not set, empty; string(s) is the value.
type Secret string

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// Format keeps the value out of every fmt verb, %#v and %d included.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// MarshalText serves YAML, JSON and slog.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Location is a file or URL. Printed it has no query, where storages put secrets,
// and no user.
type Location string

func (l Location) String() string {
	if !strings.Contains(string(l), "://") {
		return string(l)
	}
	return yamlstrict.HideUser(string(l))
}

// MarshalText serves YAML, JSON and slog.
func (l Location) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Variable is KEY=VALUE for the environment of a container. Printed it has the key
// alone: values may be secrets.
type Variable string

func (v Variable) String() string {
	key, value, _ := strings.Cut(string(v), "=")
	return key + "=" + Secret(value).String()
}

// Format keeps the value out of every fmt verb.
func (v Variable) Format(f fmt.State, _ rune) { io.WriteString(f, v.String()) }

// MarshalText serves YAML, JSON and slog.
func (v Variable) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// Locations is a list that can be written as its one element.
type Locations []Location

// OneOrMore marks the type for yamlstrict.
func (Locations) OneOrMore() {}

// secretSource holds the three ways to give a secret. Only one is used.
type secretSource struct {
	value     Secret
	file, env string
}

func (s secretSource) given() bool { return s != (secretSource{}) }

// readGiven returns the secret, or "" if none is given.
func (s secretSource) readGiven() (string, error) {
	if !s.given() {
		return "", nil
	}
	return s.read()
}

// read returns the secret. Its errors do not contain it.
func (s secretSource) read() (string, error) {
	switch {
	case s.value != "" && s.file == "" && s.env == "":
		return string(s.value), nil
	case s.file != "" && s.value == "" && s.env == "":
		text, err := readSecret(s.file)
		if err != nil {
			return "", errors.New(cause(err))
		}
		if text = bytes.TrimRight(text, "\r\n"); len(text) == 0 {
			return "", errors.New("the file is empty")
		}
		return string(text), nil
	case s.env != "" && s.value == "" && s.file == "":
		if text := os.Getenv(s.env); text != "" {
			return text, nil
		}
		return "", errors.New("the environment variable is not set, or empty")
	}
	return "", errors.New("give it in one way: as it is, in a file, or in an environment variable")
}

// maxSecret is more than any key or password has, in bytes.
const maxSecret = 64 << 10

func readSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSecret))
}

// cause leaves out the path, because the caller tells it.
func cause(err error) string {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		err = p.Err
	}
	return err.Error()
}

// MarshalYAML returns what "config check" prints: secrets as ***, and no user or query
// in anything that looks like a URL, whatever key it was written to.
func (c *Config) MarshalYAML() (any, error) {
	type plain Config // has no MarshalYAML
	var n yaml.Node
	if err := n.Encode((*plain)(c)); err != nil {
		return nil, err
	}
	hideURLs(&n)
	return &n, nil
}

// urlLike matches texts in which people write a user, a password or a signed query.
var urlLike = regexp.MustCompile(`//|:[^@/]*@`)

func hideURLs(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && urlLike.MatchString(n.Value) {
		n.Value = yamlstrict.HideUser(n.Value)
	}
	for _, child := range n.Content {
		hideURLs(child)
	}
}
