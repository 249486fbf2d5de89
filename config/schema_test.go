package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write the configuration's schema into the Helm chart")

const chartSchema = "../deploy/helm/waveproxy/values.schema.json"

// encoded is the schema as other tools read it.
func encoded(t *testing.T) []byte {
	t.Helper()
	schema, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.MarshalIndent(schema, "    ", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func compile(t *testing.T, text []byte) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	if err := c.AddResource("schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// value returns a YAML document in the form that a JSON validator reads.
func value(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	again, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func TestSchemaAccepts(t *testing.T) {
	schema := compile(t, encoded(t))
	plain, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Load(write(t, "complete.yml", loggingIn(completeExample(t))), nil)
	if err != nil {
		t.Fatal(err)
	}
	printed, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"the example": string(plain), "the example with every key": completeExample(t), "what config check prints": string(printed),
		"one document": "recipes: {a: {container_config_url: 'https://h/{arch}.json'}}", "no values": "log:\nhttp: {tls: , addr: }\n",
		"numbers": "cache: {size: 4096}\nlimits: {pulls: 0, layers: 9}", "nothing": "{}",
	} {
		if err := schema.Validate(value(t, text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSchemaRefuses: Load refuses the same texts.
func TestSchemaRefuses(t *testing.T) {
	schema := compile(t, encoded(t))
	for _, text := range []string{
		"htp: {}", "http: {adr: ':80'}", "registries: {quay.io: {user: x}}", "log: {level: trace}", "log: {format: xml}", "log: debug",
		"http: {addr: '9090'}", "http: {host: 'https://wave.example.org/v2'}", "http: {host: 'https://u:p@h'}", "http: {proxies: [proxy.local]}",
		"http: {http2: {disabled: maybe}}", "tokens: {ttl: soon}", "tokens: {ttl: 36}", "tokens: {keys: {file: k}}",
		"upstreams: {deny: ['quay.io/a:1']}", "upstreams: {allow: [Quay.io]}", "upstreams: {blobs: proxy}", "cache: {size: 32M}", "cache: {size: -1}",
		"limits: {pulls: 0/m}", "limits: {pulls: 600}", "limits: {layers: 1.5}", "api: {auth: digest}", "api: {oidc: {issuer: login}}",
		"api: {identities: {'*': {platforms: [a/b/c/d]}}}", "recipes: {a: {env: A=1}}", "recipes: {a: {layers: [{url: 'https://h/x', digest: 'sha256:1'}]}}",
	} {
		if schema.Validate(value(t, text)) == nil {
			t.Errorf("the schema accepts %s", text)
		}
		if _, err := Load(write(t, "c.yml", text), nil); err == nil {
			t.Errorf("the server accepts %s", text)
		}
	}
}

func TestSchemaDescribes(t *testing.T) {
	if got := string(encoded(t)); strings.Count(got, `"description"`) < 80 || !strings.Contains(got, "the least severity logged") {
		t.Errorf("%d descriptions in\n%s", strings.Count(got, `"description"`), got)
	}
}

// TestChartSchema holds the chart's schema of config equal to this one.
func TestChartSchema(t *testing.T) {
	text, err := os.ReadFile(chartSchema)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := bytes.Cut(text, []byte("\n    \"config\": "))
	var had json.RawMessage
	d := json.NewDecoder(bytes.NewReader(rest))
	if err := d.Decode(&had); !found || err != nil {
		t.Fatalf("no config in the chart's schema: %v", err)
	}
	want := encoded(t)
	if *update {
		head := text[:len(text)-len(rest)]
		text = bytes.Join([][]byte{head, want, rest[d.InputOffset():]}, nil)
		if err := os.WriteFile(chartSchema, text, 0o644); err != nil {
			t.Fatal(err)
		}
		had = want
	}
	if diff := cmp.Diff(string(want), string(had)); diff != "" {
		t.Errorf("run go test ./config -run TestChartSchema -update (-want +got):\n%s", diff)
	}
	values, err := os.ReadFile("../deploy/helm/waveproxy/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	schema := compile(t, text)
	if err := schema.Validate(value(t, string(values))); err != nil {
		t.Errorf("the chart's values: %v", err)
	}
	if schema.Validate(value(t, strings.Replace(string(values), "format: json", "format: xml", 1))) == nil {
		t.Error("the chart takes a log format that the server refuses")
	}
}
