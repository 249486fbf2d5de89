package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// object is a part of the OpenAPI document.
type object = map[string]any

func part(t *testing.T, o object, path ...string) object {
	t.Helper()
	for _, name := range path {
		next, ok := o[name].(object)
		if !ok {
			t.Fatalf("%q of %q is missing", name, path)
		}
		o = next
	}
	return o
}

func openDocument(t *testing.T) object {
	t.Helper()
	_, h := newAPI()
	w := call(h, "GET", "/openapi.json", "")
	var doc object
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	if doc["openapi"] != "3.1.0" || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("openapi %v, content type %q", doc["openapi"], w.Header().Get("Content-Type"))
	}
	return doc
}

// TestDocumentHasEveryRoute: the document has every route and no others.
func TestDocumentHasEveryRoute(t *testing.T) {
	var want, got []string
	for _, r := range (server{}).routes() {
		want = append(want, r.method+" "+r.path)
	}
	ids := map[string]bool{}
	for path, item := range part(t, openDocument(t), "paths") {
		for method, operation := range item.(object) {
			if method == "parameters" {
				if n := strings.Count(path, "{"); n != len(operation.([]any)) {
					t.Errorf("%s: %v do not describe its parameters", path, operation)
				}
				continue
			}
			got = append(got, strings.ToUpper(method)+" "+path)
			id, _ := operation.(object)["operationId"].(string)
			if id == "" || ids[id] {
				t.Errorf("%s %s: operationId %q", method, path, id)
			}
			ids[id] = true
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Errorf("document\n%s\nroutes\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestDocumentReferences: every reference has a target, and every component is
// used.
func TestDocumentReferences(t *testing.T) {
	doc := openDocument(t)
	used := map[string]bool{}
	var visit func(v any)
	visit = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				visit(e)
			}
		case object:
			for name, e := range v {
				if name == "$ref" {
					used[e.(string)] = true
				}
				visit(e)
			}
		}
	}
	visit(doc)
	for ref := range used {
		part(t, doc, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
	}
	for kind, components := range part(t, doc, "components") {
		for name := range components.(object) {
			if ref := "#/components/" + kind + "/" + name; kind != "securitySchemes" && !used[ref] {
				t.Errorf("%s is not used", ref)
			}
		}
	}
}

// TestDocumentExamples sends each example of a request through the handlers, and
// compares it with its schema and with a captured request.
func TestDocumentExamples(t *testing.T) {
	doc := openDocument(t)
	schemas := part(t, doc, "components", "schemas")
	sent := map[string]bool{}
	for path, item := range part(t, doc, "paths") {
		post, ok := item.(object)["post"].(object)
		if !ok {
			continue
		}
		body := part(t, post, "requestBody")
		if ref, ok := body["$ref"].(string); ok {
			body = part(t, doc, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
		}
		media := part(t, body, "content", "application/json")
		examples := part(t, media, "examples")
		for _, name := range slices.Sorted(maps.Keys(examples)) {
			value := part(t, examples, name)["value"]
			data, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			validate(t, name, schemas, part(t, media, "schema"), value)
			f, h := newAPI()
			f.inspection.Root.Data = []byte(`{}`)
			w := call(h, "POST", path, string(data), "Content-Type", "application/json")
			want := http.StatusOK
			if strings.Contains(fmt.Sprint(part(t, examples, name)["summary"]), "501") {
				want = http.StatusNotImplemented
			}
			if w.Code != want {
				t.Errorf("%s %s: %d %s, want %d", path, name, w.Code, w.Body, want)
			}
			if real, err := os.ReadFile("testdata/" + name + ".json"); err == nil {
				sent[name] = true
				if canonical(t, real) != canonical(t, data) {
					t.Errorf("%s differs from what the client sent", name)
				}
			}
		}
	}
	if len(sent) != 10 { // all but nextflow-fusion, which has no real digests
		t.Errorf("the examples have %d of the clients' requests: %v", len(sent), sent)
	}
	for _, answer := range []struct {
		holder object
		schema string
	}{
		{part(t, doc, "components", "responses", "Submitted"), "SubmitResponse"},
		{part(t, doc, "paths", container+"/{id}/status", "get", "responses", "200"), "ContainerStatus"},
	} {
		media := part(t, answer.holder, "content", "application/json")
		if part(t, media, "schema")["$ref"] != "#/components/schemas/"+answer.schema {
			t.Errorf("the example for %s has another schema", answer.schema)
		}
		validate(t, answer.schema, schemas, part(t, media, "schema"), media["example"])
	}
}

// validate returns how a value violates a schema. It knows the keywords that this
// document uses. Unlisted members are violations, too, because the document
// should list them.
func validate(t *testing.T, where string, schemas, schema object, v any) {
	t.Helper()
	if choices := list(schema["oneOf"]); choices != nil {
		if v == nil {
			return
		}
		schema = choices[0].(object)
	}
	if ref, ok := schema["$ref"].(string); ok {
		schema = part(t, schemas, strings.TrimPrefix(ref, "#/components/schemas/"))
	}
	kind := map[reflect.Kind]string{reflect.Invalid: "null", reflect.String: "string", reflect.Bool: "boolean", reflect.Float64: "integer",
		reflect.Slice: "array", reflect.Map: "object"}[reflect.ValueOf(v).Kind()]
	if kind == "integer" && slices.Contains(types(schema), "number") {
		kind = "number"
	}
	if !slices.Contains(types(schema), kind) {
		t.Errorf("%s is %s, want one of %q", where, kind, types(schema))
	}
	for i, e := range list(v) {
		validate(t, fmt.Sprintf("%s[%d]", where, i), schemas, part(t, schema, "items"), e)
	}
	members, _ := v.(object)
	properties, _ := schema["properties"].(object)
	for name, e := range members {
		if properties == nil {
			continue // a free object
		}
		validate(t, where+"."+name, schemas, part(t, properties, name), e)
	}
	for _, name := range list(schema["required"]) {
		if _, ok := members[name.(string)]; !ok {
			t.Errorf("%s.%s is missing", where, name)
		}
	}
}
