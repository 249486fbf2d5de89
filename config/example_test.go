package config

import (
	"bytes"
	"encoding"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/waveproxy/waveproxy/internal/yamlstrict"
)

func TestExampleHoldsTheDefaults(t *testing.T) {
	want, err := Load("", nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Load(example, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("example differs from the defaults (-defaults +example):\n%s", diff)
	}
}

// completeExample is the example with the keys that have no default, which are
// behind a # and an even number of spaces, and with files that exist here.
func completeExample(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`(?m)^( *)#((  )*[^ #\n])`).ReplaceAll(text, []byte("$1$2"))
	text = bytes.ReplaceAll(text, []byte("the output of that command"), []byte(testKey))
	text = bytes.ReplaceAll(text, []byte("the hash that it prints"), []byte(testHash))
	// If users are given, logins must be required.
	text = bytes.Replace(text, []byte("auth: none"), []byte("auth: bearer"), 1)
	text = bytes.Replace(text, []byte("auth: none"), []byte("auth: basic"), 1)
	for _, variable := range regexp.MustCompile(`_env: ([A-Z_]+)`).FindAllSubmatch(text, -1) {
		t.Setenv(string(variable[1]), "a secret of some length")
	}
	dir := t.TempDir()
	return regexp.MustCompile(`(/run|/etc)/[a-z0-9/.-]+`).ReplaceAllStringFunc(string(text), func(path string) string {
		name := filepath.Join(dir, filepath.Base(path))
		if strings.HasSuffix(path, "/") {
			if err := os.Mkdir(name, 0o700); err != nil {
				t.Fatal(err)
			}
			return name
		}
		path = name
		text := []byte(testKey + "\n")
		if strings.HasSuffix(path, ".pem") {
			if text, err = os.ReadFile("../internal/truststore/testdata/authorities.pem"); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	})
}

// loggingIn leaves out the keys that contradict logins of callers, and further ways to
// give the secret of the one bucket.
func loggingIn(text string) string {
	text = regexp.MustCompile(`(?m)^    secret_access_key_(file|env):.*\n`).ReplaceAllString(text, "")
	return regexp.MustCompile(`(?m)^  builds:\n    forward:.*\n`).ReplaceAllString(text, "")
}

func TestExampleHoldsEveryKey(t *testing.T) {
	text := completeExample(t)
	c, err := Load(write(t, "complete.yml", loggingIn(text)), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if len(c.Tokens.Keys) != 2 || len(c.Registries) != 7 {
		t.Errorf("%d keys and %d registries, want 2 and 7", len(c.Tokens.Keys), len(c.Registries))
	}
	if len(c.Recipes) != 3 || len(c.Recipes["scripts"].Layers) != 3 {
		t.Errorf("recipes %v, want 3 and 3 layers", c.Recipes)
	}
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(text), &document); err != nil {
		t.Fatal(err)
	}
	given := map[string]bool{}
	collectKeys("", document.Content[0], reflect.TypeFor[Config](), given)
	for _, key := range allKeys("", reflect.TypeFor[Config]()) {
		if !given[key] {
			t.Errorf("%s is not in the example", key)
		}
	}
}

// allKeys lists the keys of a section; the elements of lists and maps are *.
func allKeys(prefix string, section reflect.Type) []string {
	var keys []string
	for name, v := range yamlstrict.Fields(reflect.New(section).Elem()) {
		switch kind := v.Kind(); {
		case isSection(v.Type()):
			keys = append(keys, allKeys(prefix+name+".", v.Type())...)
		case (kind == reflect.Map || kind == reflect.Slice) && v.Type().Elem() == reflect.TypeFor[Login]():
			keys = append(keys, prefix+name+".*") // what a login is stands under registries
		case kind == reflect.Map || kind == reflect.Slice:
			if isSection(v.Type().Elem()) {
				keys = append(keys, allKeys(prefix+name+".*.", v.Type().Elem())...)
				continue
			}
			keys = append(keys, prefix+name+".*")
		default:
			keys = append(keys, prefix+name)
		}
	}
	return keys
}

func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func collectKeys(prefix string, n *yaml.Node, t reflect.Type, keys map[string]bool) {
	keys[strings.TrimSuffix(prefix, ".")] = true
	switch t.Kind() {
	case reflect.Struct:
		if !isSection(t) {
			return
		}
		for i := 0; i < len(n.Content); i += 2 {
			name := n.Content[i].Value
			collectKeys(prefix+name+".", n.Content[i+1], yamlstrict.Fields(reflect.New(t).Elem())[name].Type(), keys)
		}
	case reflect.Map:
		for i := 0; i < len(n.Content); i += 2 {
			collectKeys(prefix+"*.", n.Content[i+1], t.Elem(), keys)
		}
	case reflect.Slice:
		for _, e := range n.Content {
			collectKeys(prefix+"*.", e, t.Elem(), keys)
		}
	}
}

func TestFieldsHaveKeys(t *testing.T) {
	for _, key := range allKeys("", reflect.TypeFor[Config]()) {
		if !regexp.MustCompile(`^[a-z0-9_]+(\.(\*|[a-z0-9_]+))*$`).MatchString(key) {
			t.Errorf("%q: a field lacks its yaml tag", key)
		}
	}
	variables := map[string]string{}
	for _, s := range yamlstrict.Settings(reflect.ValueOf(Defaults()).Elem()) {
		name := s.Variable(envPrefix)
		if other := variables[name]; other != "" {
			t.Errorf("%s is both %s and %s", name, other, s.Key)
		}
		if foreignEnv.MatchString(name + "=") {
			t.Errorf("%s is ignored as foreign", name)
		}
		variables[name] = s.Key
	}
}
