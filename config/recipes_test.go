package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

const pinned = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestValidateRecipes(t *testing.T) {
	const wantDocument = "want http:// or https:// and a host, or file: and a path"
	const notDirectory = "is for a directory: an archive says itself where its files go"
	tests := []struct {
		text string
		want []string
	}{
		{"recipes: {Fusion: {env: [A=1]}, a/b: {env: [A=1]}, -a: {env: [A=1]}, " + strings.Repeat("a-", 16) + "b: {env: [A=1]}, empty: {}}", []string{
			`c.yml:1: recipes: "-a": ` + RecipeNames,
			`c.yml:1: recipes: "Fusion": ` + RecipeNames,
			`c.yml:1: recipes: "` + strings.Repeat("a-", 16) + `b": ` + RecipeNames,
			`c.yml:1: recipes: "a/b": ` + RecipeNames,
			`c.yml:1: recipes.empty: "": adds nothing: want container_config_url, layers, env, extend_env, certificates, entrypoint, cmd or working_dir`,
		}},
		{"recipes: {a: {container_config_url: [ftp://x, 'file:', 'https://u:p@h/x', 'file:absent-{arch}.json', 'file:config.go', 'https:///x']}}", []string{
			`c.yml:1: recipes.a.container_config_url: "ftp://x": ` + wantDocument,
			`c.yml:1: recipes.a.container_config_url: "file:": ` + wantDocument,
			`c.yml:1: recipes.a.container_config_url: "***@h/x": ` + wantDocument,
			`c.yml:1: recipes.a.container_config_url: "absent-amd64.json": no such file or directory`,
			`c.yml:1: recipes.a.container_config_url: "absent-arm64.json": no such file or directory`,
			`c.yml:1: recipes.a.container_config_url: "https:///x": ` + wantDocument,
		}},
		{"recipes: {a: {layers: [{}, {path: a, url: 'https://h/x'}, {path: absent}, {path: config.go, target: /opt}, {path: ., target: opt}, {path: ., target: /a/../b}, {path: ., digest: '" + pinned + "', platform: a/b/c/d}]}}", []string{
			`c.yml:1: recipes.a.layers[6].platform: platform "a/b/c/d": want [os/]architecture[/variant], for example linux/amd64`,
			`c.yml:1: recipes.a.layers[0]: "": give either path or url`,
			`c.yml:1: recipes.a.layers[1]: "a": give either path or url`,
			`c.yml:1: recipes.a.layers[2].path: "absent": no such file or directory`,
			`c.yml:1: recipes.a.layers[3].target: "/opt": ` + notDirectory,
			`c.yml:1: recipes.a.layers[4].target: "opt": want an absolute path`,
			`c.yml:1: recipes.a.layers[5].target: "/a/../b": want an absolute path`,
			`c.yml:1: recipes.a.layers[6].digest: "` + pinned + `": is for a url`,
		}},
		{"recipes: {a: {layers: [{path: ., keep_modes: false}, {path: ., keep_modes: true}, {path: ., keep_modes: no}, {path: ., keep_modes: 0}]}}", []string{
			`c.yml:1: recipes.a.layers[2].keep_modes: want true or false`,
			`c.yml:1: recipes.a.layers[3].keep_modes: want true or false`,
		}},
		{"recipes: {a: {layers: [{url: 'https://h/x?secret=1'}, {url: x, digest: 'sha256:1'}, {url: 'http://h/x', digest: '" + pinned + "', target: /opt}]}}", []string{
			`c.yml:1: recipes.a.layers[1].digest: "sha256:1": ` + wantDigest,
			`c.yml:1: recipes.a.layers[0].digest: "": ` + wantDigest,
			`c.yml:1: recipes.a.layers[1].url: "x": want http:// or https:// and a host, without user`,
			`c.yml:1: recipes.a.layers[2].target: "/opt": ` + notDirectory,
		}},
		{"recipes: {a: {env: [A=1, B], working_dir: work, images: ['a b'], credentials: [shared, team]}, b: {env: A=1, layer: []}}", []string{
			`c.yml:1: recipes.a.images[0]: pattern "a b": names have lower-case letters, digits and ._-:/ only, and * is the one wildcard`,
			`c.yml:1: recipes.b.env: want a list`,
			`c.yml:1: recipes.b.layer: unknown key, want one of certificates, cmd, container_config_url, credentials, entrypoint, env, extend_env, images, layers, tag_ttl, unfit, working_dir`,
			`c.yml:1: recipes.a.env[1]: "***": want KEY=VALUE`,
			`c.yml:1: recipes.a.working_dir: working directory "work" is not an absolute path`,
			`c.yml:1: recipes.a.credentials: "team": no such name in credentials`,
		}},
		{"recipes: {a: {env: [A=1, B, =secret], working_dir: work, images: ['a b'], credentials: [shared, team]}}", []string{
			`c.yml:1: recipes.a.images[0]: pattern "a b": names have lower-case letters, digits and ._-:/ only, and * is the one wildcard`,
			`c.yml:1: recipes.a.env[1]: "***": want KEY=VALUE`,
			`c.yml:1: recipes.a.env[2]: "": want KEY=VALUE`,
			`c.yml:1: recipes.a.working_dir: working directory "work" is not an absolute path`,
			`c.yml:1: recipes.a.credentials: "team": no such name in credentials`,
		}},
		{"recipes: {a: {extend_env: ['A=$$', 'B=${A', secret, 'C=secret$!', 'D=${D:-secret}']}}", []string{
			`c.yml:1: recipes.a.extend_env[1]: B: the dollar at byte 1 has no name alone in braces after it: write ${NAME} for the image's value of NAME, and $$ for a dollar`,
			`c.yml:1: recipes.a.extend_env[2]: want KEY=VALUE`,
			`c.yml:1: recipes.a.extend_env[3]: C: the dollar at byte 7 has neither braces nor a dollar after it: write ${NAME} for the image's value of NAME, and $$ for a dollar`,
			`c.yml:1: recipes.a.extend_env[4]: D: the dollar at byte 1 has no name alone in braces after it: write ${NAME} for the image's value of NAME, and $$ for a dollar`,
		}},
		{"recipes: {a: {env: ['T=/opt'], extend_env: ['PATH=${T}:${PATH}', 'B=${PATH}']}}", []string{
			`c.yml:1: recipes.a.extend_env: extend_env[1]: B refers to PATH, which extend_env[0] sets: references read the image's values and those of env, so set PATH in env, or write its value here`,
		}},
		{"api: {auth: bearer, tokens: {'recipe:a': {token: 0123456789abcdef}}, identities: {'recipe:a': {}}}", []string{
			`c.yml:1: api.tokens.recipe:a: "recipe:a": is a name that this server gives: recipe:, platform: and * are reserved`,
			`c.yml:1: api.identities: "recipe:a": is what this server calls a recipe: recipes says what it may do`,
		}},
		{"registries: {'a:1': {alias: quay.io}, 'b:1': {alias: b.local}, 'c:1': {alias: b.local}, 'd:1': {alias: 'd:2'}, 'e:1': {alias: team}, 'f:1': {alias: F.local}, 'g:1': {alias: docker.io}, h.io/x: {alias: h}, quay.io/team: {}}", []string{
			`c.yml:1: registries.h.io/x: "h.io/x": has a path and so takes credentials only: how to reach the registry is said for its host`,
			`c.yml:1: registries.a:1.alias: "quay.io": is the name of another registry`,
			`c.yml:1: registries.c:1.alias: "b.local": is the alias of another registry, too`,
			`c.yml:1: registries.d:1.alias: "d:2": want a host as image names have it, without a port: registry.local`,
			`c.yml:1: registries.e:1.alias: "team": want a host as image names have it, without a port: registry.local`,
			`c.yml:1: registries.f:1.alias: "F.local": want a host as image names have it, without a port: registry.local`,
			`c.yml:1: registries.g:1.alias: "docker.io": is a name of Docker Hub`,
			`c.yml:1: registries.h.io/x.alias: "h": want a host as image names have it, without a port: registry.local`,
		}},
	}
	for _, test := range tests {
		t.Run(test.text, func(t *testing.T) {
			path := write(t, "c.yml", test.text)
			_, err := Load(path, nil)
			checkLines(t, err, filepath.Dir(path)+"/", test.want)
		})
	}
}

func TestRecipesInTheEnvironment(t *testing.T) {
	for _, value := range []string{
		`{"a": {"container_config_url": "https://h/{arch}.json", "layers": [{"url": "https://h/x", "digest": "` + pinned + `"}]}}`,
		"a:\n  container_config_url: ['https://h/{arch}.json']\n  layers: [{url: https://h/x, digest: '" + pinned + "'}]\n",
	} {
		c, err := Load("", []string{"WAVEPROXY_RECIPES=" + value})
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]Recipe{"a": {
			ContainerConfigURL: Locations{"https://h/{arch}.json"},
			Layers:             []RecipeLayer{{URL: "https://h/x", Digest: pinned}},
		}}
		if diff := cmp.Diff(want, c.Recipes); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// TestPrintedRecipes: the signatures of storages' URLs are not printed.
func TestPrintedRecipes(t *testing.T) {
	c, err := Load("", []string{"WAVEPROXY_RECIPES={a: {container_config_url: 'https://h/{arch}.json?sig=secret', layers: [{url: 'https://h/x?sig=secret', digest: '" + pinned + "'}]}}"})
	if err != nil {
		t.Fatal(err)
	}
	printed, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if text := string(printed); strings.Contains(text, "=secret") || strings.Count(text, "?***") != 2 || !strings.Contains(text, "https://h/{arch}.json?") {
		t.Errorf("printed:\n%s", text)
	}
}

func TestSameRecipeWorksFromTheExample(t *testing.T) {
	c, err := Load(write(t, "complete.yml", loggingIn(completeExample(t))), nil)
	if err != nil {
		t.Fatal(err)
	}
	d := c.Recipes["scripts"]
	if len(d.Layers) != 3 || d.Layers[1].Platform != "linux/amd64" || len(d.Images) != 2 || len(d.Credentials) != 1 || d.Layers[2].Digest == "" || !d.Layers[2].KeepModes.Off() || d.Layers[0].KeepModes.Off() {
		t.Errorf("%+v", d)
	}
	if info, err := os.Stat(d.Layers[0].Path); err != nil || !info.IsDir() {
		t.Errorf("%s: %v", d.Layers[0].Path, err)
	}
	if got := c.Registries["localhost:5000"].Alias; got != "registry.local" {
		t.Errorf("the alias is %q", got)
	}
}

// TestCertificatesChecked: a file that cannot be what programs are to trust is refused
// with its line and key, and nothing of it is shown.
func TestCertificatesChecked(t *testing.T) {
	good, err := os.ReadFile("../internal/truststore/testdata/authorities.pem")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"good.pem": string(good), "key.pem": string(good) + "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n", "text.pem": "secret", "old.pem": expired(t)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	path := write(t, "c.yml", "recipes:\n  a:\n    certificates:\n    - good.pem\n    - key.pem\n    - text.pem\n    - old.pem\n    - none.pem\n")
	_, err = Load(path, nil)
	checkLines(t, err, filepath.Dir(path)+"/", []string{
		`c.yml:5: recipes.a.certificates[1]: "key.pem": has a private key, which must never be in an image: give the certificate alone`,
		`c.yml:6: recipes.a.certificates[2]: "text.pem": is not a certificate in PEM: want -----BEGIN CERTIFICATE-----`,
		`c.yml:7: recipes.a.certificates[3]: "old.pem": certificate "CN=old" has expired on 2020-01-02`,
		`c.yml:8: recipes.a.certificates[4]: "none.pem": no such file or directory`,
	})
	c, err := Load(write(t, "good.yml", "recipes: {a: {certificates: [good.pem]}}"), nil)
	if err != nil || len(c.Recipes["a"].Certificates) != 1 {
		t.Errorf("%+v, %v", c, err)
	}
}

// expired returns a certificate of 2020.
func expired(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "old"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2020, 1, 2, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
