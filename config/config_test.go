package config

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const example = "../config.example.yml"

// testKey is a valid key; the 0x2a bytes make it easy to find in output.
var testKey = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0x2a}, 32))

// testHash is htpasswd's hash of the password hunter2.
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

func TestBadFile(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string // the lines of the error, after the directory
	}{
		{"unknown keys", "htp: {}\nhttp:\n  adr: :80\nregistries:\n  quay.io: {user: x}\n", []string{
			"c.yml:1: htp: unknown key, want one of api, cache, clouds, credentials, docker_config, http, layers, limits, log, recipes, registries, registry, storage, tokens, upstreams",
			"c.yml:3: http.adr: unknown key, want one of addr, debug, drain_delay, draintimeout, host, http2, proxies, stall_timeout, tls",
			"c.yml:5: registries.quay.io.user: unknown key, want one of alias, blobs, ca, client_cert, client_key, files, identity_token, identity_token_env, identity_token_file, password, password_env, password_file, plain_http, proxy, url, username",
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
		{"two spellings", "registries: {quay.io: {}, 'QUAY.io:0443': {}, '[::1]:5000': {}, '[::01]:5000': {}}\n", []string{
			`c.yml:1: registries: "QUAY.io:0443": is the same as quay.io, which is given too`,
			`c.yml:1: registries: "[::01]:5000": is the same as [::1]:5000, which is given too`,
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
		{"http: {tls: {key: config.go}}", []string{`c.yml:1: http.tls: "***": give both certificate and key, or none`}},
		{"http: {tls: {key: config.go, certificate: absent.pem}}", []string{`c.yml:1: http.tls.certificate: "absent.pem": no such file or directory`}},
		{"storage: {dir: ''}\ntokens: {ttl: 59s}", []string{
			`c.yml:1: storage.dir: "": want a directory`,
			`c.yml:2: tokens.ttl: "59s": want a duration from 1m to 8760h`,
		}},
		{"tokens: {ttl: 8760h1s}", []string{`c.yml:1: tokens.ttl: "8760h0m1s": want a duration from 1m to 8760h`}},
		{"tokens: {ttl: 36}", []string{`c.yml:1: tokens.ttl: "36" is not a duration such as 36h or 90m`}},
		{"tokens: {keys: [{}, {file: absent}, {key: AAAA}, {file: absent, key: AAAA}]}", []string{
			`c.yml:1: tokens.keys[0]: "": give either file or key`,
			`c.yml:1: tokens.keys[1].file: "***": no such file or directory`,
			`c.yml:1: tokens.keys[2].key: "***": key has 3 bytes, want at least 32: make one with openssl rand -base64 32`,
			`c.yml:1: tokens.keys[3]: "***": give either file or key`,
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
			`c.yml:1: registries.a.io.username: "***": a username needs a password, password_file or password_env`,
			`c.yml:1: registries.b.io.username: "": a password needs a username`,
			`c.yml:1: registries.c.io.password_file: "***": give it in one way: as it is, in a file, or in an environment variable`,
			`c.yml:1: registries.d.io.password_file: "***": no such file or directory`,
			`c.yml:1: registries.e.io.password_file: "***": the file is empty`,
		}},
		{"registries: {a.io: {username: u, password: p, identity_token: i}, b.io: {username: u, password_env: NOT_SET_ANYWHERE}, c.io: {identity_token_file: absent}}", []string{
			`c.yml:1: registries.a.io.identity_token: "***": give either a password or an identity token`,
			`c.yml:1: registries.b.io.password_env: "***": the environment variable is not set, or empty`,
			`c.yml:1: registries.c.io.identity_token_file: "***": no such file or directory`,
		}},
		{"credentials: {shared: {}, a: {registries: {quay: {}, quay.io: {username: u}}, docker_config: absent}}", []string{
			`c.yml:1: credentials.a.registries: "quay": ` + badHost,
			`c.yml:1: credentials.a.registries.quay.io.username: "***": a username needs a password, password_file or password_env`,
			`c.yml:1: credentials.a.docker_config: "absent": no such file or directory`,
			`c.yml:1: credentials: "shared": is the name of the logins in registries, docker_config and clouds`,
		}},
		{"clouds: {ecr: [{registries: ['https://x'], access_key_id: a, external_id: e, endpoint: ecr}], gar: [{key_file: absent}], acr: [{client_secret: s}]}", []string{
			`c.yml:1: clouds.ecr[0].registries[0]: pattern "https://x" is a URL: want a registry, and a path or none`,
			`c.yml:1: clouds.ecr[0].endpoint: "ecr": ` + noPath,
			`c.yml:1: clouds.ecr[0].access_key_id: "a": give both the id and the secret of the key, or neither`,
			`c.yml:1: clouds.ecr[0].external_id: "e": is for a role, and none is given`,
			`c.yml:1: clouds.gar[0].key_file: "***": no such file or directory`,
			`c.yml:1: clouds.acr[0].client_id: "": a client secret needs tenant and client_id`,
		}},
		{"upstreams: {allow: ['docker.io/library/*', Quay.io], deny: ['quay.io/a:1']}", []string{
			`c.yml:1: upstreams.allow[1]: pattern "Quay.io": names have lower-case letters, digits and ._-:/ only, and * is the one wildcard`,
			`c.yml:1: upstreams.deny[0]: pattern "quay.io/a:1" has a tag: patterns are about repositories`,
		}},
		{"http: {proxies: [10.0.0.1, 10.0.0.0/8, 'fd00::/8', proxy.local]}", []string{
			`c.yml:1: http.proxies[3]: "proxy.local": want an address or a network such as 10.0.0.0/8`,
		}},
		{"http: {stall_timeout: 10ms, drain_delay: -1s, draintimeout: 0s}\nupstreams: {blobs: proxy, stall_timeout: 1ms}\nregistries: {quay.io: {blobs: no}}", []string{
			`c.yml:1: http.stall_timeout: "10ms": want at least 1s`,
			`c.yml:1: http.drain_delay: "-1s": want 0s or more`,
			`c.yml:1: http.draintimeout: "0s": want at least 1s`,
			`c.yml:2: upstreams.blobs: "proxy": want one of redirect, stream`,
			`c.yml:2: upstreams.stall_timeout: "1ms": want at least 1s`,
			`c.yml:3: registries.quay.io.blobs: "no": want one of redirect, stream`,
		}},
		{"http: {debug: {addr: '9090'}}", []string{`c.yml:1: http.debug.addr: "9090": want host:port or :port, with a port from 0 to 65535`}},
		{"limits: {submits: many, pulls: 0/m, upstream: 0}", []string{
			`c.yml:1: limits.submits: "many": want a rate such as 600/m, or 0 for no limit`,
			`c.yml:1: limits.pulls: "0/m": want a rate such as 600/m, or 0 for no limit`,
			`c.yml:1: limits.upstream: "0": want at least 1`,
		}},
		{"limits: {memory: 1G, elements: 1023, fetches: 3, streams: 2, processes: -1, unpacked: -1, documents: 1, descriptors: 2, files: 3}", []string{
			`c.yml:1: limits.memory: "1G" is not a size such as 32MiB, 10MB or 4096`,
			`c.yml:1: limits.elements: "1023": want at least 1024`,
			`c.yml:1: limits.unpacked: "-1": want a size, or 0 for no limit`,
			`c.yml:1: limits.fetches: "3": want at least 4, because a client may have a quarter, or 0 for no limit`,
			`c.yml:1: limits.streams: "2": want at least 4, because a client may have a quarter, or 0 for no limit`,
			`c.yml:1: limits.processes: "-1": want at least 4, because a client may have a quarter, or 0 for no limit`,
			`c.yml:1: limits.documents: "1": want at least 4, because a client may have a quarter, or 0 for no limit`,
			`c.yml:1: limits.descriptors: "2": want at least 4, because a client may have a quarter, or 0 for no limit`,
			`c.yml:1: limits.files: "3": want at least 4, because a client may have a quarter, or 0 for no limit`,
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

// TestRegistrySpellings: keys get the spelling that image names get, and a registry
// that is reached over http stays where its name says.
func TestRegistrySpellings(t *testing.T) {
	path := write(t, "c.yml", "registries: {'QUAY.io:443': {}, 'plain.local:443': {plain_http: true}, registry-1.docker.io/team: {username: a, password: b}}\n")
	c, err := Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := c.Registries["quay.io"]; !ok || len(c.Registries) != 3 {
		t.Errorf("registries %v", c.Registries)
	}
	if got := c.Registries["plain.local"].URL; got != (URL{"http", "plain.local:443"}) {
		t.Errorf("plain.local:443 is at %s", got)
	}
	if c.Registries["docker.io/team"].Username != "a" {
		t.Errorf("registries %v", c.Registries)
	}
}

func TestWarnings(t *testing.T) {
	const login = "api: {auth: bearer, tokens: {ci: {token: 0123456789abcdef}}, oidc: {issuer: 'https://issuer.example', audience: a, claim: %s}, identities: {'*': {}}}\n"
	for claim, want := range map[string]int{"preferred_username": 2, "sub": 1} {
		c, err := Load(write(t, "c.yml", fmt.Sprintf(login, claim)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Warnings(); len(got) != want || strings.Contains(strings.Join(got, " "), "0123456789") {
			t.Errorf("claim %s: %q", claim, got)
		}
	}
	if got := Defaults().Warnings(); got != nil {
		t.Errorf("by default %q", got)
	}
}
