package yamlstrict

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Environment stores the variables that begin with the prefix in the struct that
// into points to. Lists and maps are given whole, as YAML or JSON; an empty
// variable counts as not set. A variable with the prefix that is no key is a
// problem, unless ignore says that it belongs to another program.
func (d *Decoder) Environment(prefix string, environ map[string]string, ignore func(name, value string) bool, into any) {
	keys := map[string]Setting{}
	for _, s := range Settings(reflect.ValueOf(into).Elem()) {
		keys[s.Variable(prefix)] = s
	}
	for _, name := range slices.Sorted(maps.Keys(environ)) {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		s, known := keys[name]
		value := environ[name]
		switch {
		case !known && ignore(name, value):
			continue
		case !known:
			d.from(name)
			d.problem(nil, "", "unknown variable: no key of the configuration has this name")
		case value != "":
			d.from(name)
			d.variable(s, value)
		}
	}
}

func (d *Decoder) variable(s Setting, value string) {
	// What the file has below the key is replaced.
	maps.DeleteFunc(d.positions, func(key string, _ Position) bool { return within(key, s.Key) })
	d.positions[s.Key] = Position{Source: d.source}
	if t := s.Value.Type(); !isText(t) && (t.Kind() == reflect.Map || t.Kind() == reflect.Slice) {
		if n := d.parse([]byte(value)); n != nil {
			d.decode(s.Key, n, s.Value)
		}
		return
	}
	d.scalar(s.Key, &yaml.Node{Kind: yaml.ScalarNode, Value: value}, s.Value)
}
