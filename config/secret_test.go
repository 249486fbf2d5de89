package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.yaml.in/yaml/v3"
)

func TestPasswordFile(t *testing.T) {
	path := write(t, "password", " hunter2 \r\n")
	password, err := Login{Username: "u", PasswordFile: path}.password().read()
	if err != nil || password != " hunter2 " {
		t.Errorf("got %q, %v", password, err)
	}
}

// TestNoSecretInErrors gives secrets in every wrong form that a file or a
// variable can have.
func TestNoSecretInErrors(t *testing.T) {
	const word = "hunter2"
	texts := []string{
		"registries: {quay.io: {username: u, password: %s, x: y}}",
		"registries: {quay.io: {password: %s}}",
		"registries: {quay.io: {username: u, password: *%s}}",
		"registries: {quay.io: {username: u, password: &%s x}}",
		"registries: {quay.io: {username: u, password: !%s x}}",
		"registries: {quay.io: {username: u, password: [%s]}}",
		"registries: {quay.io: {username: u, password: {%s: x}}}",
		"registries: {quay.io: {username: u, password: '%s}}",
		"registries: {quay.io: {username: u, password: %s: x}}",
		"registries: {quay.io: {username: u, password: %s, password_file: f}}",
		"registries: {quay.io: 'u:%s'}",
		"registries: {quay.io: {identity_token: %s, x: y}}",
		"registries: {quay.io: {identity_token: %s, username: u, password: %[1]s}}",
		"credentials: {a: {registries: {quay.io: {password: %s}}}}",
		"clouds: {ecr: [{secret_access_key: %s}]}",
		"clouds: {acr: [{client_secret: %s}]}",
		"registries: 'quay.io:u:%s'",
		"registries: {quay.io: {url: 'https://u:%s@quay.io'}}",
		"registries: {quay.io: {url: 'https://u:%s%%zz@quay.io'}}",
		"registries: {'u:%s@quay.io': {username: u, x: y}}",
		"http: {host: 'https://u:%s@wave.example.org'}",
		"api: {admins: {ops: %s}}",
		"api: {admins: {ops: [%s]}}",
		"api: {admins: {'ops:%s': x}}",
		"api: {admins: 'ops:%s'}",
		"api: {admins: ['ops:%s']}",
		"api: {builds: {forward: 'https://ops:%s@wave.example.org'}}",
		"tokens: {keys: [{key: %s}]}",
		"tokens: {keys: [{key: %s, file: f}]}",
		"tokens: {keys: [%s]}",
		"tokens: {keys: %s}",
	}
	for _, text := range texts {
		text = fmt.Sprintf(text, word)
		section, value, _ := strings.Cut(text, ": ")
		variable := "WAVEPROXY_" + strings.ToUpper(section)
		switch section {
		case "tokens":
			variable, value = "WAVEPROXY_TOKENS_KEYS", strings.TrimSuffix(strings.TrimPrefix(value, "{keys: "), "}")
		case "api":
			variable, value = "WAVEPROXY_API_ADMINS", strings.TrimSuffix(strings.TrimPrefix(value, "{admins: "), "}")
			if forward, ok := strings.CutPrefix(value, "{builds: {forward: '"); ok {
				variable, value = "WAVEPROXY_API_BUILDS_FORWARD", strings.TrimSuffix(forward, "'}")
			}
		case "http":
			variable, value = "WAVEPROXY_HTTP_HOST", strings.TrimSuffix(strings.TrimPrefix(value, "{host: "), "}")
		}
		_, fromFile := Load(write(t, "c.yml", text), nil)
		_, fromEnv := Load("", []string{variable + "=" + value})
		for _, err := range []error{fromFile, fromEnv} {
			if err == nil || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), word) {
				t.Errorf("%s\n  error: %v", text, err)
			}
		}
	}
}

func TestNoSecretInPrintedConfig(t *testing.T) {
	c, err := Load(write(t, "c.yml", loggingIn(completeExample(t))), []string{
		`WAVEPROXY_REGISTRIES={"quay.io": {"username": "u", "password": "hunter2"}}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	printed, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("", "config", c, "password", c.Registries["quay.io"].Password)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("", "config", c, "password", c.Registries["quay.io"].Password)
	outputs := []string{string(printed), string(asJSON), log.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		outputs = append(outputs, fmt.Sprintf(verb, *c), fmt.Sprintf(verb, c.Registries["quay.io"].Password))
	}
	for _, output := range outputs {
		for _, word := range []string{"hunter2", "68756e74657232", testKey, testHash} {
			if strings.Contains(output, word) {
				t.Errorf("printed:\n%s", output)
			}
		}
	}
	if !strings.Contains(string(printed), "password: '***'") && !strings.Contains(string(printed), `password: "***"`) {
		t.Errorf("the password is not shown as ***:\n%s", printed)
	}
}

// TestPrintedConfigLoads: a printed configuration can be loaded, with the same
// result.
func TestPrintedConfigLoads(t *testing.T) {
	want, err := Load(example, nil)
	if err != nil {
		t.Fatal(err)
	}
	want.Registries = map[string]Registry{"localhost:5000": {PlainHTTP: true, URL: URL{"http", "127.0.0.1:5000"}}}
	want.Tokens.Keys = []TokenKey{{File: write(t, "key", testKey)}}
	want.API.Identities = map[string]Identity{"*": {Credentials: []string{}}}
	printed, err := yaml.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Load(write(t, "c.yml", string(printed)), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, printed)
	}
	if got.API.Identities["*"].Credentials == nil {
		t.Error("an empty list of credentials became the shared list")
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, line := range []string{"max_body: 32MiB", "ttl: 36h0m0s", "registries:", "submits: 600/m"} {
		if !slices.ContainsFunc(strings.Split(string(printed), "\n"), func(l string) bool { return strings.TrimSpace(l) == line }) {
			t.Errorf("%q is not a line of\n%s", line, printed)
		}
	}
}
