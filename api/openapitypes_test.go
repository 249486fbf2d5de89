package api

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/containerconfig"
)

// errorBody is the body that front.WriteAPIError writes.
type errorBody struct {
	Message string `json:"message"`
}

// wireTypes are the types that the API reads and writes. Schemas have their
// names. The test also follows the types of their members.
var (
	requestTypes = []any{SubmitRequest{}, InspectRequest{}, LoginRequest{}, WrappedLoginRequest{}}
	answerTypes  = []any{SubmitResponse{}, ContainerStatus{}, ContainerRecord{}, TokenDescription{}, InspectResponse{}, ServiceInfo{}, Health{}, errorBody{}}
)

// TestDocumentMatchesTypes: every member has a property of its type and every
// property is a member's; what answers always have is required, and what
// requests may leave out may be null.
func TestDocumentMatchesTypes(t *testing.T) {
	c := &typeChecker{t: t, schemas: part(t, openDocument(t), "components", "schemas"), seen: map[string]bool{}}
	for _, v := range requestTypes {
		c.request = true
		c.schema(reflect.TypeOf(v))
	}
	for _, v := range answerTypes {
		c.request = false
		c.schema(reflect.TypeOf(v))
	}
	for name := range c.schemas {
		if !c.seen[name] {
			t.Errorf("schema %s has no Go type", name)
		}
	}
}

type typeChecker struct {
	t       *testing.T
	schemas object
	seen    map[string]bool
	request bool
}

func schemaName(t reflect.Type) string {
	if t == reflect.TypeFor[errorBody]() {
		return "Error"
	}
	if t == reflect.TypeFor[containerconfig.Config]() || t == reflect.TypeFor[containerconfig.Layer]() {
		return "Container" + t.Name()
	}
	return t.Name()
}

func (c *typeChecker) schema(typ reflect.Type) {
	name := schemaName(typ)
	if c.seen[name] {
		return
	}
	c.seen[name] = true
	schema, _ := c.schemas[name].(object)
	if schema == nil || schema["type"] != "object" {
		c.t.Errorf("%s has no schema of type object", name)
		return
	}
	required := map[string]bool{}
	for _, r := range list(schema["required"]) {
		required[r.(string)] = true
	}
	properties, _ := schema["properties"].(object)
	members := map[string]bool{}
	for _, f := range reflect.VisibleFields(typ) {
		if f.Anonymous {
			continue
		}
		member, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		members[member] = true
		property, ok := properties[member].(object)
		if !ok {
			c.t.Errorf("%s.%s has no property", name, member)
			continue
		}
		c.value(name+"."+member, property, f.Type, c.request && !required[member])
		if optional := options == "omitempty"; !c.request && required[member] == optional {
			c.t.Errorf("%s.%s: required %v, omitempty %v", name, member, required[member], optional)
		}
	}
	for member := range properties {
		if !members[member] {
			c.t.Errorf("%s.%s is no member", name, member)
		}
	}
	for member := range required {
		if !members[member] {
			c.t.Errorf("%s.%s is required and no member", name, member)
		}
	}
}

// value checks the schema of one value.
func (c *typeChecker) value(where string, schema object, typ reflect.Type, null bool) {
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	var want []string
	switch {
	case typ == reflect.TypeFor[json.RawMessage]():
		want = []string{"object"}
	case typ == reflect.TypeFor[json.Number]():
		want = []string{"number"}
	case typ == reflect.TypeFor[Number](), typ == reflect.TypeFor[containerconfig.Size]():
		want = []string{"integer", "string"}
	case typ.Kind() == reflect.Struct:
		c.reference(where, schema, typ, null)
		return
	default:
		want = []string{map[reflect.Kind]string{reflect.String: "string", reflect.Bool: "boolean", reflect.Int: "integer", reflect.Int64: "integer",
			reflect.Slice: "array", reflect.Map: "object"}[typ.Kind()]}
	}
	if null {
		want = append(want, "null")
	}
	if got := types(schema); !slices.Equal(got, want) {
		c.t.Errorf("%s: type %q, want %q for %s", where, got, want, typ)
	}
	if typ.Kind() == reflect.Slice && want[0] == "array" {
		items, _ := schema["items"].(object)
		c.value(where+"[]", items, typ.Elem(), false)
	}
	if typ.Kind() == reflect.Map {
		values, _ := schema["additionalProperties"].(object)
		c.value(where+"{}", values, typ.Elem(), false)
	}
}

func (c *typeChecker) reference(where string, schema object, typ reflect.Type, null bool) {
	if null {
		choices := list(schema["oneOf"])
		if len(choices) != 2 || !reflect.DeepEqual(choices[1], object{"type": "null"}) {
			c.t.Errorf("%s may be null", where)
			return
		}
		schema = choices[0].(object)
	}
	if got, want := schema["$ref"], "#/components/schemas/"+schemaName(typ); got != want {
		c.t.Errorf("%s: $ref %v, want %s", where, got, want)
	}
	c.schema(typ)
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

func types(schema object) []string {
	if name, ok := schema["type"].(string); ok {
		return []string{name}
	}
	var names []string
	for _, name := range list(schema["type"]) {
		names = append(names, name.(string))
	}
	return names
}
