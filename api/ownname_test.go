package api

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
)

// recipeNames knows one recipe, which adds a variable.
type recipeNames struct{}

func (recipeNames) Named(_ context.Context, component, repository string, _ digest.Digest) (assemble.NamedImage, bool, error) {
	if component != "tools" {
		return assemble.NamedImage{}, false, nil
	}
	ref, err := reference.ParseNormalizedNamed(repository)
	return assemble.NamedImage{Ref: ref, Recipe: augment.Recipe{Env: []string{"SECRET=1"}}}, true, err
}

func TestIsHost(t *testing.T) {
	for _, test := range []struct{ host, image, own string }{
		{"localhost:9090", "localhost:9090", "yes"}, {"localhost:9090", "127.0.0.1:9090", "yes"}, {"localhost:9090", "127.9.9.9:9090", "yes"},
		{"localhost:9090", "node-7:9090", "yes"}, {"localhost:9090", "[::1]:9090", "yes"}, {"localhost:9090", "0.0.0.0:9090", "yes"},
		{"localhost:9090", "localhost:5000", "no"}, {"localhost:9090", "192.0.2.1:9090", "no"}, {"localhost:9090", "node-8:9090", "no"},
		{"wave.example.org", "wave.example.org", "yes"}, {"wave.example.org", "wave.example.org:443", "yes"}, {"wave.example.org", "WAVE.example.org", "yes"},
		{"wave.example.org", "wave.example.org:8443", "no"}, {"wave.example.org", "quay.io", "no"}, {"wave.example.org", "docker.io", "no"},
	} {
		s := server{Options{Host: test.host, Names: []string{":9090", "node-7"}}}
		domain, err := auth.RegistryHost(test.image)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.isHost(domain); got != (test.own == "yes") {
			t.Errorf("http.host %s, image at %s: own is %v, want %s", test.host, test.image, got, test.own)
		}
	}
}

// TestOwnNameLogin: where pulls need a login, what a recipe adds is not told without it.
func TestOwnNameLogin(t *testing.T) {
	const image = `{"containerImage": "proxy.test:9090/wt/tools/library/a:1"}`
	for _, path := range []string{container, "/v1alpha1/inspect"} {
		f, h := newAPI(func(o *Options) { o.Named = recipeNames{}; o.Pullers = passwords{"ann": "hunter2"} })
		config := augment.NewObject("application/vnd.oci.image.config.v1+json", []byte(`{}`))
		manifest := augment.NewObject(ociManifest, []byte(`{"schemaVersion": 2}`))
		f.inspection = assemble.Inspection{Root: manifest, Manifest: &manifest, Config: &config}
		checkError(t, call(h, http.MethodPost, path, image), http.StatusUnauthorized, "registry.auth")
		w := call(h, http.MethodPost, path, image, "Authorization", basic("ann", "hunter2"))
		if w.Code != http.StatusOK {
			t.Errorf("%s with the login: %d %s", path, w.Code, w.Body)
		}
		checkError(t, call(h, http.MethodPost, path, image, "Authorization", basic("ann", "wrong")), http.StatusUnauthorized, "wrong user")
	}
	// The holder of a token learns nothing new by augmenting further; inspecting shows more.
	f, h := newAPI(func(o *Options) { o.Named = recipeNames{}; o.Pullers = passwords{"ann": "hunter2"} })
	f.description = described()
	own := `{"containerImage": "proxy.test:9090/wt/` + string(token) + `/library/ubuntu:24.04"}`
	if w := call(h, http.MethodPost, container, own); w.Code != http.StatusOK {
		t.Errorf("a token: %d %s", w.Code, w.Body)
	}
	checkError(t, call(h, http.MethodPost, "/v1alpha1/inspect", own), http.StatusUnauthorized, "registry.auth")
}

// TestOwnNamePolicy: the caller's policy is asked about the base image, and what the
// token was made for bounds the platforms.
func TestOwnNamePolicy(t *testing.T) {
	f, h := newAPI(func(o *Options) {
		only, err := auth.ParsePattern("quay.io/**")
		if err != nil {
			t.Fatal(err)
		}
		o.Policies = auth.NewPolicies(map[string]auth.Policy{"*": {Images: []auth.Pattern{only}}})
	})
	f.description = described()
	own := "proxy.test:9090/wt/" + string(token) + "/library/ubuntu:24.04"
	checkError(t, call(h, http.MethodPost, container, `{"containerImage": "`+own+`"}`), http.StatusForbidden, "you may not use docker.io/library/ubuntu")
	f, h = newAPI()
	f.description = described()
	checkError(t, call(h, http.MethodPost, container, `{"containerImage": "`+own+`", "containerPlatform": "linux/s390x"}`), http.StatusBadRequest, "made for linux/amd64, linux/arm64")
	w := call(h, http.MethodPost, container, `{"containerImage": "`+own+`", "containerPlatform": "linux/arm64/v8", "containerConfig": {"env": ["B=2"]}}`)
	if w.Code != http.StatusOK || len(f.resolved) != 1 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	req := f.resolved[0]
	if req.Base != f.description.Grant.Base || len(req.Recipe.Layers) != 2 || req.Recipe.Below == nil || strings.Join(req.Recipe.Env, " ") != "B=2" {
		t.Errorf("resolved %+v", req)
	}
}

// TestOwnLayers: a layer at a name of this server is refused before any request, in
// every spelling of the host and the path. Other paths and hosts are asked.
func TestOwnLayers(t *testing.T) {
	const blob = "library/a/blobs/sha256:0000000000000000000000000000000000000000000000000000000000000000"
	for location, own := range map[string]bool{
		"docker://proxy.test:9090/v2/wt/tools/" + blob:                       true,
		"docker://localhost:9090/v2/wt/" + string(token) + "/" + blob:        true,
		"http://127.0.0.1:9090/v2/wt/tools/" + blob:                          true,
		"https://PROXY.test:9090//v2/./wt/tools/" + blob:                     true,
		"http://user:hunter2@[::1]:9090/wt/tools/v2/" + blob + "?ns=quay.io": true,
		"http://proxy.test:9090/v2/%77t/tools/" + blob:                       true,
		"https://proxy.test:9090/files/layer.tar":                            false,
		"https://proxy.test:9090/v2/wtf/" + blob:                             false,
		"docker://quay.io/v2/wt/tools/" + blob:                               false,
		"https://proxy.test:8443/v2/wt/tools/" + blob:                        false,
	} {
		f, h := newAPI()
		w := call(h, http.MethodPost, container, `{"containerImage":"a","containerConfig":{"layers":[{"location":"`+location+`"}]}}`)
		if !own {
			if w.Code != http.StatusOK {
				t.Errorf("%s: %d %s", location, w.Code, w.Body)
			}
			continue
		}
		checkError(t, w, http.StatusBadRequest, "this is a name of this server")
		if len(f.calls) != 0 || strings.Contains(w.Body.String(), string(token)) || strings.Contains(w.Body.String(), "hunter2") {
			t.Errorf("%s: %s, after %q", location, w.Body, f.calls)
		}
	}
}
