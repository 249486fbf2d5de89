package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/waveproxy/waveproxy/internal/yamlstrict"
)

// leaf is a key of the configuration that takes a single value.
type leaf struct {
	path string
	typ  reflect.Type
	with func(value any) any // the document in which the key has the value
}

// leaves returns all keys of a section, those that later versions add among them.
func leaves(t reflect.Type, path string, with func(any) any) (all []leaf) {
	switch {
	case t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(reflect.TypeFor[interface{ UnmarshalText([]byte) error }]()):
		for name, field := range yamlstrict.Fields(reflect.New(t).Elem()) {
			all = append(all, leaves(field.Type(), path+"."+name, func(v any) any { return with(map[string]any{name: v}) })...)
		}
	case t.Kind() == reflect.Map:
		name := "a"
		if strings.HasSuffix(path, "registries") {
			name = "quay.io"
		}
		all = leaves(t.Elem(), path+"."+name, func(v any) any { return with(map[string]any{name: v}) })
	case t.Kind() == reflect.Slice:
		all = leaves(t.Elem(), path+"[0]", func(v any) any { return with([]any{v}) })
	default:
		all = []leaf{{strings.TrimPrefix(path, "."), t, with}}
	}
	return all
}

// holdsSecrets reports whether people have a secret at hand when they write the key.
func (l leaf) holdsSecrets() bool {
	for _, end := range []string{"_file", "_env", ".username", "password", "token", ".key", ".file", ".env[0]"} {
		if strings.HasSuffix(l.path, end) {
			return true
		}
	}
	return l.typ == reflect.TypeFor[Secret]() || l.typ == reflect.TypeFor[Variable]()
}

// TestNoSecretIsShown puts secrets into every key, where they belong and by mistake:
// in URLs everywhere, alone where people have one at hand. No error and no print of
// the configuration shows them.
func TestNoSecretIsShown(t *testing.T) {
	const marker = "s3cretmarker"
	all := leaves(reflect.TypeFor[Config](), "", func(v any) any { return v })
	if len(all) < 60 {
		t.Fatalf("only %d keys were found", len(all))
	}
	for _, l := range all {
		values := []string{
			"https://u:" + marker + "@host.example/path?sig=" + marker + "#" + marker, "https://host.example/?sig=" + marker,
			"https://host.example#" + marker, "u:" + marker + "@host.example", "file:///x?sig=" + marker, "//host.example/?" + marker,
		}
		if l.holdsSecrets() {
			values = append(values, marker, "/"+marker+"/x", "KEY="+marker, strings.ToUpper(marker), marker+"\n"+marker)
		}
		for _, value := range values {
			text, err := yaml.Marshal(l.with(value))
			if err != nil {
				t.Fatal(err)
			}
			c, err := Load(write(t, "c.yml", string(text)), nil)
			shown := fmt.Sprintf("%v %+v", err, err)
			if err == nil {
				out, err := yaml.Marshal(c)
				if err != nil {
					t.Fatal(err)
				}
				shown = string(out) + strings.Join(c.Warnings(), "\n")
			}
			if strings.Contains(strings.ToLower(shown), marker) {
				t.Errorf("%s: %s shows\n%s", l.path, value, shown)
			}
		}
	}
}
