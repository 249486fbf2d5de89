package yamlstrict

import (
	"encoding"
	"reflect"
	"slices"
	"strings"
)

// Setting is a key that holds a value: a scalar, a list or a map.
type Setting struct {
	Key   string // "http.tls.key"
	Value reflect.Value
}

// Variable returns the environment variable of the key.
func (s Setting) Variable(prefix string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(s.Key, ".", "_"))
}

// Settings lists the keys of a struct and of the sections in it, sorted.
func Settings(section reflect.Value) []Setting {
	list := settings("", section)
	slices.SortFunc(list, func(a, b Setting) int { return strings.Compare(a.Key, b.Key) })
	return list
}

func settings(prefix string, section reflect.Value) []Setting {
	var list []Setting
	for name, v := range Fields(section) {
		if isSection(v.Type()) {
			list = append(list, settings(prefix+name+".", v)...)
		} else {
			list = append(list, Setting{prefix + name, v})
		}
	}
	return list
}

// Fields returns the fields of a struct by their key, the yaml tag. The fields of
// an embedded struct are those of the struct around it.
func Fields(v reflect.Value) map[string]reflect.Value {
	fields := map[string]reflect.Value{}
	for _, f := range reflect.VisibleFields(v.Type()) {
		if key := f.Tag.Get("yaml"); key != "" && !f.Anonymous && f.IsExported() {
			fields[key] = v.FieldByIndex(f.Index)
		}
	}
	return fields
}

// isText reports whether the type reads its own text.
func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// isSection tells structs with keys from structs that are one value.
func isSection(t reflect.Type) bool { return t.Kind() == reflect.Struct && !isText(t) }
