package config

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.yaml.in/yaml/v3"

	"github.com/waveproxy/waveproxy/internal/yamlstrict"
)

const example = "../config.example.yml"

// testKey is a valid key; the 0x2a bytes make it easy to find in output.
var testKey = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0x2a}, 32))

// testHash is htpasswd's for the password hunter2.
const testHash = "$2y$05$dN9erO9JfD6WDQjBTfkVPOsd1Lo9U4WNQsgHLj/jpvfvwe1e3itbm"

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaults(t *testing.T) {
	c, err := Load("", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Defaults()
	want.HTTP.Host = URL{"http", "localhost:9090"}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("without file and environment (-want +got):\n%s", diff)
	}
	c, err = Load(write(t, "empty.yml", "# nothing\nlog:\nhttp: {tls: }\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("keys without values (-want +got):\n%s", diff)
	}
}

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
	// Given, logins must be asked for.
	text = bytes.Replace(text, []byte("auth: none"), []byte("auth: bearer"), 1)
	text = bytes.Replace(text, []byte("auth: none"), []byte("auth: basic"), 1)
	for _, variable := range regexp.MustCompile(`_env: ([A-Z_]+)`).FindAllSubmatch(text, -1) {
		t.Setenv(string(variable[1]), "a secret of some length")
	}
	dir := t.TempDir()
	return regexp.MustCompile(`(/run|/etc)/[a-z/.-]+`).ReplaceAllStringFunc(string(text), func(path string) string {
		name := filepath.Join(dir, filepath.Base(path))
		if strings.HasSuffix(path, "/") {
			if err := os.Mkdir(name, 0o700); err != nil {
				t.Fatal(err)
			}
			return name
		}
		path = name
		if err := os.WriteFile(path, []byte(testKey+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	})
}

// loggingIn leaves out what callers cannot have when they log in.
func loggingIn(text string) string {
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
	if len(c.Recipes) != 2 || len(c.Recipes["scripts"].Layers) != 3 {
		t.Errorf("recipes %v, want 2 and 3 layers", c.Recipes)
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

func TestBadFile(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string // the lines of the error, after the directory
	}{
		{"unknown keys", "htp: {}\nhttp:\n  adr: :80\nregistries:\n  quay.io: {user: x}\n", []string{
			"c.yml:1: htp: unknown key, want one of api, cache, clouds, credentials, docker_config, http, layers, limits, log, recipes, registries, registry, storage, tokens, upstreams",
			"c.yml:3: http.adr: unknown key, want one of addr, debug, draintimeout, host, http2, proxies, stall_timeout, tls",
			"c.yml:5: registries.quay.io.user: unknown key, want one of alias, blobs, ca, identity_token, identity_token_env, identity_token_file, password, password_env, password_file, plain_http, url, username",
		}},
		{"bad scalars", "tokens: {ttl: soon}\napi: {max_body: 32M}\nlimits: {layers: 1.5}\nregistries: {quay.io: {plain_http: maybe}}\n", []string{
			`c.yml:1: tokens.ttl: "soon" is not a duration such as 36h or 90m`,
			`c.yml:2: api.max_body: "32M" is not a size such as 32MiB, 10MB or 4096`,
			`c.yml:3: limits.layers: "1.5" is not a whole number`,
			`c.yml:4: registries.quay.io.plain_http: "maybe" is not true or false`,
		}},
		{"bad shapes", "log: debug\nhttp: {addr: [a]}\ntokens: {keys: {file: k}}\n", []string{
			"c.yml:1: log: want keys with values",
			"c.yml:2: http.addr: want a single value; one that begins with *, &, ! or another special character must be quoted",
			"c.yml:3: tokens.keys: want a list",
		}},
		{"twice", "log: {level: info}\nlog: {level: warn}\n", []string{"c.yml:2: log: given twice"}},
		{"two documents", "log: {level: info}\n---\nlog: {level: warn}\n", []string{"c.yml:2: more than one YAML document"}},
		{"syntax", "log: [\n", []string{"c.yml: yaml: line 1: did not find expected node content"}},
		{"both names of Docker Hub", "registries: {docker.io: {}, index.docker.io: {}}\n", []string{
			`c.yml:1: registries: "index.docker.io": is the same as docker.io, which is given too`,
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := write(t, "c.yml", test.text)
			_, err := Load(path, nil)
			checkLines(t, err, filepath.Dir(path)+"/", test.want)
		})
	}
	if _, err := Load("/nowhere/c.yml", nil); err == nil || !strings.Contains(err.Error(), "/nowhere/c.yml") {
		t.Errorf("missing file: %v", err)
	}
}

func checkLines(t *testing.T, err error, prefix string, want []string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", want)
	}
	got := strings.Split(strings.ReplaceAll(err.Error(), prefix, ""), "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestValidate(t *testing.T) {
	const noPath = "want https://host or http://host:port, without user, path or query"
	const badHost = `want a host as image names have it, "docker.io" or "registry.local:5000", and a path below it or none`
	tests := []struct {
		text string
		want []string
	}{
		{"log: {level: trace, format: xml}", []string{
			`c.yml:1: log.level: "trace": want one of debug, info, warn, error`,
			`c.yml:1: log.format: "xml": want one of text, json`,
		}},
		{"http: {addr: '9090'}", []string{`c.yml:1: http.addr: "9090": want host:port or :port, with a port from 0 to 65535`}},
		{"http: {addr: ':http'}", []string{`c.yml:1: http.addr: ":http": want host:port or :port, with a port from 0 to 65535`}},
		{"http: {host: wave.example.org}", []string{`c.yml:1: http.host: "wave.example.org": ` + noPath}},
		{"http: {host: 'https://wave.example.org/v2'}", []string{`c.yml:1: http.host: "https://wave.example.org/v2": ` + noPath}},
		{"http: {host: 'https://wave'}", []string{`c.yml:1: http.host: "https://wave": image names cannot begin with this host: it needs a dot or a port, or to be localhost`}},
		{"http: {tls: {key: config.go}}", []string{`c.yml:1: http.tls: "config.go": give both certificate and key, or none`}},
		{"http: {tls: {key: config.go, certificate: absent.pem}}", []string{`c.yml:1: http.tls.certificate: "absent.pem": no such file or directory`}},
		{"storage: {dir: ''}\ntokens: {ttl: 59s}", []string{
			`c.yml:1: storage.dir: "": want a directory`,
			`c.yml:2: tokens.ttl: "59s": want a duration from 1m to 8760h`,
		}},
		{"tokens: {ttl: 8760h1s}", []string{`c.yml:1: tokens.ttl: "8760h0m1s": want a duration from 1m to 8760h`}},
		{"tokens: {ttl: 36}", []string{`c.yml:1: tokens.ttl: "36" is not a duration such as 36h or 90m`}},
		{"tokens: {keys: [{}, {file: absent}, {key: AAAA}, {file: absent, key: AAAA}]}", []string{
			`c.yml:1: tokens.keys[0]: "": give either file or key`,
			`c.yml:1: tokens.keys[1].file: "absent": no such file or directory`,
			`c.yml:1: tokens.keys[2].key: "***": key has 3 bytes, want at least 32: make one with openssl rand -base64 32`,
			`c.yml:1: tokens.keys[3]: "absent": give either file or key`,
		}},
		{"registries: {quay: {}, quay.io/org: {ca: config.go}, quay.io/Org: {}, 'quay.io/org:1': {}, quay.io/: {}, 'https://quay.io': {}, 'u:p@quay.io': {}}", []string{
			`c.yml:1: registries: "https://quay.io": ` + badHost,
			`c.yml:1: registries: "quay": ` + badHost,
			`c.yml:1: registries: "quay.io/": ` + badHost,
			`c.yml:1: registries: "quay.io/Org": ` + badHost,
			`c.yml:1: registries.quay.io/org: "quay.io/org": has a path and so takes credentials only: how to reach the registry is said for its host`,
			`c.yml:1: registries: "quay.io/org:1": ` + badHost,
			`c.yml:1: registries: "***@quay.io": ` + badHost,
		}},
		{"registries: {a.io: {url: 'ftp://a'}, b.io: {url: 'https://u:p@b'}, c.io: {url: 'https://c', plain_http: true}, d.io: {ca: absent}}", []string{
			`c.yml:1: registries.a.io.url: "ftp://a": ` + noPath,
			`c.yml:1: registries.b.io.url: "***@b": ` + noPath,
			`c.yml:1: registries.c.io.plain_http: "true": contradicts url, which begins with https`,
			`c.yml:1: registries.d.io.ca: "absent": no such file or directory`,
		}},
		{"registries: {a.io: {username: u}, b.io: {password: p}, c.io: {username: u, password: p, password_file: f}, d.io: {username: u, password_file: absent}, e.io: {username: u, password_file: /dev/null}}", []string{
			`c.yml:1: registries.a.io.username: "u": a username needs a password, password_file or password_env`,
			`c.yml:1: registries.b.io.username: "": a password needs a username`,
			`c.yml:1: registries.c.io.password_file: "f": give it in one way: as it is, in a file, or in an environment variable`,
			`c.yml:1: registries.d.io.password_file: "absent": no such file or directory`,
			`c.yml:1: registries.e.io.password_file: "/dev/null": the file is empty`,
		}},
		{"registries: {a.io: {username: u, password: p, identity_token: i}, b.io: {username: u, password_env: NOT_SET_ANYWHERE}, c.io: {identity_token_file: absent}}", []string{
			`c.yml:1: registries.a.io.identity_token: "***": give either a password or an identity token`,
			`c.yml:1: registries.b.io.password_env: "NOT_SET_ANYWHERE": the environment variable is not set, or empty`,
			`c.yml:1: registries.c.io.identity_token_file: "absent": no such file or directory`,
		}},
		{"credentials: {shared: {}, a: {registries: {quay: {}, quay.io: {username: u}}, docker_config: absent}}", []string{
			`c.yml:1: credentials.a.registries: "quay": ` + badHost,
			`c.yml:1: credentials.a.registries.quay.io.username: "u": a username needs a password, password_file or password_env`,
			`c.yml:1: credentials.a.docker_config: "absent": no such file or directory`,
			`c.yml:1: credentials: "shared": is the name of the logins in registries, docker_config and clouds`,
		}},
		{"clouds: {ecr: [{registries: ['https://x'], access_key_id: a, external_id: e, endpoint: ecr}], gar: [{key_file: absent}], acr: [{client_secret: s}]}", []string{
			`c.yml:1: clouds.ecr[0].registries[0]: pattern "https://x" is a URL: want a registry, and a path or none`,
			`c.yml:1: clouds.ecr[0].endpoint: "ecr": ` + noPath,
			`c.yml:1: clouds.ecr[0].access_key_id: "a": give both the id and the secret of the key, or neither`,
			`c.yml:1: clouds.ecr[0].external_id: "e": is for a role, and none is given`,
			`c.yml:1: clouds.gar[0].key_file: "absent": no such file or directory`,
			`c.yml:1: clouds.acr[0].client_id: "": a client secret needs tenant and client_id`,
		}},
		{"upstreams: {allow: ['docker.io/library/*', Quay.io], deny: ['quay.io/a:1']}", []string{
			`c.yml:1: upstreams.allow[1]: pattern "Quay.io": names have lower-case letters, digits and ._-:/ only, and * is the one wildcard`,
			`c.yml:1: upstreams.deny[0]: pattern "quay.io/a:1" has a tag: patterns are about repositories`,
		}},
		{"http: {proxies: [10.0.0.1, 10.0.0.0/8, 'fd00::/8', proxy.local]}", []string{
			`c.yml:1: http.proxies[3]: "proxy.local": want an address or a network such as 10.0.0.0/8`,
		}},
		{"http: {stall_timeout: 10ms, draintimeout: 0s}\nupstreams: {blobs: proxy, stall_timeout: 1ms}\nregistries: {quay.io: {blobs: no}}", []string{
			`c.yml:1: http.stall_timeout: "10ms": want at least 1s`,
			`c.yml:1: http.draintimeout: "0s": want at least 1s`,
			`c.yml:2: upstreams.blobs: "proxy": want one of redirect, stream`,
			`c.yml:2: upstreams.stall_timeout: "1ms": want at least 1s`,
			`c.yml:3: registries.quay.io.blobs: "no": want one of redirect, stream`,
		}},
		{"http: {debug: {addr: '9090'}}", []string{`c.yml:1: http.debug.addr: "9090": want host:port or :port, with a port from 0 to 65535`}},
		{"limits: {submits: many, pulls: 0/m, upstream: 0}", []string{
			`c.yml:1: limits.submits: "many" is not a rate such as 600/m, or 0 for none`,
			`c.yml:1: limits.pulls: "0/m" is not a rate such as 600/m, or 0 for none`,
			`c.yml:1: limits.upstream: "0": want at least 1`,
		}},
		{"api: {auth: digest}\nregistry: {auth: basic}\nlimits: {upstream: 0}", []string{
			`c.yml:1: api.auth: "digest": want one of none, basic, bearer`,
			`c.yml:2: registry.htpasswd: "": registry.auth basic needs a file of users`,
			`c.yml:3: limits.upstream: "0": want at least 1`,
		}},
		{"api: {auth: basic, builds: {forward: 'https://wave.example.org'}}", []string{
			`c.yml:1: api.htpasswd: "": api.auth basic needs a file of users`,
			`c.yml:1: api.builds.forward: "https://wave.example.org": would get the logins to this server: set api.auth to none, or leave it out`,
		}},
		{"api: {auth: bearer}", []string{`c.yml:1: api.auth: "bearer": needs api.tokens or api.oidc`}},
		{"api: {tokens: {ci: {token: 0123456789abcdef}}}", []string{`c.yml:1: api.auth: "none": no caller has to log in, though api.htpasswd, api.tokens or api.oidc is given`}},
		{"api: {auth: bearer, oidc: {issuer: login.example.org, ca: absent}}", []string{
			`c.yml:1: api.oidc.issuer: "login.example.org": want the issuer's URL`,
			`c.yml:1: api.oidc.audience: "": want what the issuer puts into aud for this server: without it, tokens for any other would be good here`,
			`c.yml:1: api.oidc.ca: "absent": no such file or directory`,
		}},
		{"api: {identities: {'*': {images: ['a b'], platforms: [linux], ttl: 37h, credentials: [team-a]}, ci: {}}}", []string{
			`c.yml:1: api.identities.*.images[0]: pattern "a b": names have lower-case letters, digits and ._-:/ only, and * is the one wildcard`,
			`c.yml:1: api.identities.*.ttl: "37h0m0s": want a duration from 1m to tokens.ttl`,
			`c.yml:1: api.identities.*.credentials: "team-a": no such name in credentials`,
			`c.yml:1: api.identities: "ci": no caller is known by name with api.auth none: want * only`,
		}},
		{"docker_config: absent.json", []string{`c.yml:1: docker_config: "absent.json": no such file or directory`}},
		{"api: {max_body: 32}\nlayers: {max_size: -1}\nlimits: {layers: 0}", []string{
			`c.yml:1: api.max_body: "32": want at least 1KiB`,
			`c.yml:2: layers.max_size: "-1": want at least 1KiB`,
			`c.yml:3: limits.layers: "0": want at least 1`,
		}},
		{"api: {admins: {ok: '" + testHash + "', '': x, 'u:$2y$05$x': '', md5: $apr1$x, slow: '" + strings.Replace(testHash, "$05$", "$15$", 1) + "', empty: }}", []string{
			`c.yml:1: api.admins.: "": want a user name, without a colon, and its hash as the value`,
			`c.yml:1: api.admins.empty: "": want a bcrypt hash, as htpasswd -nB prints it after the colon`,
			`c.yml:1: api.admins.md5: "***": want a bcrypt hash, as htpasswd -nB prints it after the colon`,
			`c.yml:1: api.admins.slow: "***": the hash has cost 15: comparing it would take seconds, want at most 14`,
			`c.yml:1: api.admins.u: "***": want a user name, without a colon, and its hash as the value`,
		}},
		{"api: {builds: {forward: 'https://wave.example.org/x'}}", []string{`c.yml:1: api.builds.forward: "https://wave.example.org/x": ` + noPath}},
		{"api: {builds: {forward: 'https://u:p@wave.example.org'}}", []string{`c.yml:1: api.builds.forward: "***@wave.example.org": ` + noPath}},
	}
	for _, test := range tests {
		t.Run(test.text, func(t *testing.T) {
			path := write(t, "c.yml", test.text)
			_, err := Load(path, nil)
			checkLines(t, err, filepath.Dir(path)+"/", test.want)
		})
	}
}

func TestEnvironment(t *testing.T) {
	path := write(t, "c.yml", "log: {level: warn, format: json}\nregistries: {quay.io: {}, ghcr.io: {}}\ntokens: {keys: [{key: "+testKey+"}]}\n")
	c, err := Load(path, []string{
		"WAVEPROXY_LOG_LEVEL=debug",
		"WAVEPROXY_LOG_FORMAT=", // not set
		"WAVEPROXY_HTTP_ADDR=127.0.0.1:8080",
		"WAVEPROXY_HTTP_TLS_KEY=config.go",
		"WAVEPROXY_HTTP_TLS_CERTIFICATE=config.go",
		"WAVEPROXY_STORAGE_DIR=null", // not YAML
		"WAVEPROXY_TOKENS_TTL=90m",
		"WAVEPROXY_TOKENS_KEYS=[]",
		`WAVEPROXY_REGISTRIES={"index.docker.io": {"plain_http": true, "username": "u", "password": "1234"}}`,
		"WAVEPROXY_DOCKER_CONFIG=config.go",
		"WAVEPROXY_API_MAX_BODY=10MB",
		"WAVEPROXY_API_ADMINS={ops: " + testHash + "}",
		"WAVEPROXY_API_BUILDS_FORWARD=https://wave.example.org/",
		"WAVEPROXY_LIMITS_LAYERS=99",
		"WAVEPROXY_SERVER=http://localhost:1",
		"WAVEPROXY_REQUIRE_ENGINES=1",
		"WAVEPROXY_CONFIG=" + path,
		// What Kubernetes sets beside Services named waveproxy and waveproxy-http.
		"WAVEPROXY_SERVICE_HOST=10.0.0.1",
		"WAVEPROXY_SERVICE_PORT=9090",
		"WAVEPROXY_SERVICE_PORT_HTTP=9090",
		"WAVEPROXY_PORT=tcp://10.0.0.1:9090",
		"WAVEPROXY_PORT_9090_TCP=tcp://10.0.0.1:9090",
		"WAVEPROXY_PORT_9090_TCP_PROTO=tcp",
		"WAVEPROXY_HTTP_PORT=tcp://10.0.0.1:9090",
		"WAVEPROXY_HTTP_PORT_9090_TCP_ADDR=10.0.0.1",
		"HOME=/nowhere",
		"OTHER",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Defaults()
	want.Log.Level, want.Log.Format = Level{slog.LevelDebug}, JSON
	want.HTTP.Addr, want.HTTP.Host = "127.0.0.1:8080", URL{"https", "localhost:8080"}
	want.HTTP.TLS.Key, want.HTTP.TLS.Certificate = "config.go", "config.go"
	want.Storage.Dir = "null"
	want.Tokens.TTL = 90 * time.Minute
	want.Tokens.Keys = []TokenKey{}
	want.Registries = map[string]Registry{"docker.io": {PlainHTTP: true, Login: Login{Username: "u", Password: "1234"}}}
	want.DockerConfig = "config.go"
	want.API.MaxBody = 10e6
	want.API.Admins = map[string]Secret{"ops": testHash}
	want.API.Builds.Forward = URL{"https", "wave.example.org"}
	want.Limits.Layers = 99
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBadEnvironment(t *testing.T) {
	_, err := Load("", []string{
		"WAVEPROXY_HTTP_PORT=8080",
		"WAVEPROXY_LIMITS_LAYERS=many",
		"WAVEPROXY_PASSWORD=hunter2",
		`WAVEPROXY_REGISTRIES={"quay.io": {"pasword": "hunter2"}}`,
		"WAVEPROXY_TOKENS_KEYS=hunter2",
	})
	checkLines(t, err, "", []string{
		"WAVEPROXY_HTTP_PORT: unknown variable: no key of the configuration has this name",
		`WAVEPROXY_LIMITS_LAYERS: limits.layers: "many" is not a whole number`,
		"WAVEPROXY_PASSWORD: unknown variable: no key of the configuration has this name",
		"WAVEPROXY_REGISTRIES:1: registries.quay.io.pasword: unknown key, want one of alias, blobs, ca, identity_token, identity_token_env, identity_token_file, password, password_env, password_file, plain_http, url, username",
		"WAVEPROXY_TOKENS_KEYS:1: tokens.keys: want a list",
	})
}

func TestDefaultHost(t *testing.T) {
	tests := []struct {
		addr string
		tls  bool
		want string
	}{
		{":9090", false, "http://localhost:9090"},
		{"0.0.0.0:80", false, "http://localhost:80"},
		{"[::1]:9090", true, "https://localhost:9090"},
		{"10.0.0.7:9090", false, "http://10.0.0.7:9090"},
		{"wave.local:443", true, "https://wave.local:443"},
		{"127.0.0.1:0", false, ""},
		{"9090", false, ""},
	}
	for _, test := range tests {
		if got := defaultHost(test.addr, test.tls).String(); got != test.want {
			t.Errorf("defaultHost(%q, %v) = %q, want %q", test.addr, test.tls, got, test.want)
		}
	}
}

// TestNoDockerConfigByDefault: a login of whoever starts the server is not
// lent to everybody because its file is there.
func TestNoDockerConfigByDefault(t *testing.T) {
	home := t.TempDir()
	if err := os.Mkdir(home+"/.docker", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(home+"/.docker/config.json", []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load("", []string{"HOME=" + home, "DOCKER_CONFIG=" + home + "/.docker"})
	if err != nil {
		t.Fatal(err)
	}
	if c.DockerConfig != "" {
		t.Errorf("%s is read without being asked for", c.DockerConfig)
	}
}

func TestPasswordFile(t *testing.T) {
	path := write(t, "password", " hunter2 \r\n")
	password, err := Login{Username: "u", PasswordFile: path}.password().read()
	if err != nil || password != " hunter2 " {
		t.Errorf("got %q, %v", password, err)
	}
}

// TestNoSecretInErrors gives secrets in all the wrong ways that a file or a
// variable can be wrong.
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

// TestPrintedConfigLoads makes sure that what people see is what they may write.
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
		t.Error("nobody's credentials became the shared ones")
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
