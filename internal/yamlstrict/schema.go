package yamlstrict

import (
	"maps"
	"reflect"
	"time"
)

// Schema is a JSON schema, or a part of one.
type Schema map[string]any

// durationPattern is what time.ParseDuration reads, without a sign.
const durationPattern = `^(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))+$`

// Schemas makes schemas of structs.
type Schemas struct {
	// Describe returns the description of a field of a struct type, or "".
	Describe func(t reflect.Type, field string) string
	// Types are the schemas of types that have a text form: the words or the pattern
	// that are allowed.
	Types map[reflect.Type]Schema
}

// Of returns the schema of a struct for draft 7 and later. Like the decoder it
// refuses unknown keys and takes null for a value that is not given. Unlike the
// decoder it wants text to be text: a password of digits has to be quoted, because
// other tools would write 0123 as 83.
func (s Schemas) Of(t reflect.Type) Schema {
	properties := Schema{}
	for _, f := range reflect.VisibleFields(t) {
		key := f.Tag.Get("yaml")
		if key == "" || f.Anonymous || !f.IsExported() {
			continue
		}
		field := s.of(f.Type)
		owner := t
		for _, i := range f.Index[:len(f.Index)-1] {
			owner = owner.Field(i).Type
		}
		if text := s.Describe(owner, f.Name); text != "" {
			field["description"] = text
		}
		properties[key] = field
	}
	return Schema{"type": []string{"object", "null"}, "additionalProperties": false, "properties": properties}
}

func (s Schemas) of(t reflect.Type) Schema {
	if own, ok := s.Types[t]; ok {
		return maps.Clone(own)
	}
	switch {
	case isText(t):
		return Schema{"type": []string{"string", "null"}}
	case t == reflect.TypeFor[time.Duration]():
		return Schema{"type": []string{"string", "null"}, "pattern": durationPattern}
	case isSection(t):
		return s.Of(t)
	}
	switch t.Kind() {
	case reflect.Map:
		return Schema{"type": []string{"object", "null"}, "additionalProperties": s.of(t.Elem())}
	case reflect.Slice:
		list := Schema{"type": []string{"array", "null"}, "items": s.of(t.Elem())}
		if t.Implements(reflect.TypeFor[OneOrMore]()) {
			return Schema{"anyOf": []Schema{list, s.of(t.Elem())}}
		}
		return list
	case reflect.Bool:
		return Schema{"type": []string{"boolean", "null"}}
	case reflect.Int:
		return Schema{"type": []string{"integer", "null"}}
	default:
		return Schema{"type": []string{"string", "null"}}
	}
}
