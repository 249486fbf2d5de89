package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestEveryFileIsWatched: each key that names a file is in one of the lists, but for
// files that are looked at when they are used and what recipes are made of.
func TestEveryFileIsWatched(t *testing.T) {
	const name = "/some/file"
	others := []string{"http.tls.certificate", "http.tls.key", "api.htpasswd", "registry.htpasswd", "storage.s3.secret_access_key_file"}
	n := 0
	for _, l := range leaves(reflect.TypeFor[Config](), "", func(v any) any { return v }) {
		file := false
		for _, end := range []string{"_file", ".file", ".ca", ".client_cert", ".client_key", "docker_config"} {
			file = file || strings.HasSuffix("."+l.path, end)
		}
		if !file || slices.Contains(others, l.path) {
			continue
		}
		n++
		text, err := yaml.Marshal(l.with(name))
		if err != nil {
			t.Fatal(err)
		}
		c := Defaults()
		if err := yaml.Unmarshal(text, c); err != nil {
			t.Fatal(err)
		}
		c.API.OIDC.Issuer = "https://issuer.example.org"
		f := c.Files()
		if !slices.Contains(slices.Concat(f.Logins, f.Trust, f.Callers, f.Keys), name) {
			t.Errorf("%s is not watched", l.path)
		}
	}
	if n < 15 {
		t.Errorf("only %d keys were found", n)
	}
}

// TestRenewed: what needs a restart is what differs afterwards.
func TestRenewed(t *testing.T) {
	read := func(text string) *Config {
		t.Helper()
		c, err := Load(write(t, "c.yml", text), nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	start := read("registries: {quay.io: {username: a, password: b}, ghcr.io/team: {username: a, password: b}}\napi: {admins: {ops: '" + testHash + "'}}\n")
	for text, want := range map[string][]string{
		"registries: {quay.io: {username: a, password: c}, quay.io/team: {username: x, password: y}}":                                                          {"api"},
		"registries: {quay.io: {}}\napi: {admins: {eve: '" + testHash + "'}}":                                                                                  nil,
		"registries: {quay.io: {proxy: direct}}\napi: {admins: {ops: '" + testHash + "'}}\nrecipes: {a: {env: [A=1]}}\nupstreams: {proxy: {url: 'http://p'}}":  nil,
		"registries: {quay.io: {plain_http: true}}\napi: {admins: {ops: '" + testHash + "'}}":                                                                  {"registries"},
		"registries: {quay.io: {}, new.example.org: {}}\napi: {admins: {ops: '" + testHash + "'}}":                                                             {"registries"},
		"api: {admins: {ops: '" + testHash + "'}}\nupstreams: {deny: [quay.io]}\nlog: {level: debug}":                                                          {"log", "registries", "upstreams"},
		"registries: {quay.io: {}}\napi: {max_body: 1MiB, identities: {'*': {}}, admins: {ops: '" + testHash + "'}}\ntokens: {keys: [{key: " + testKey + "}]}": {"api"},
	} {
		changed := read(text)
		if got := Differences(start.WithRenewed(changed), changed); !slices.Equal(got, want) {
			t.Errorf("%s\nneeds a restart for %q, want %q", text, got, want)
		}
	}
}
