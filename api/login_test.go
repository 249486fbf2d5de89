package api

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/ratelimit"
	"github.com/waveproxy/waveproxy/upstream"
)

func TestLogin(t *testing.T) {
	for _, accepted := range []bool{true, false} {
		for path, body := range map[string]string{
			"/v1alpha2/validate-creds": `{"userName":"ci","password":"p w","registry":"quay.io"}`,
			"/validate-creds":          `{"request":{"userName":"ci","password":"p w","registry":"quay.io"}}`,
		} {
			f, h := newAPI()
			f.accepted = accepted
			w := call(h, "POST", path, body)
			checkJSON(t, w, map[bool]string{true: "true", false: "false"}[accepted])
			if diff := cmp.Diff([]string{"login quay.io ci p w"}, f.calls); diff != "" {
				t.Errorf("%s (-want +got):\n%s", path, diff)
			}
		}
	}
}

func TestLoginRegistry(t *testing.T) {
	for text, want := range map[string]string{
		"": "docker.io", "docker.io": "docker.io", "index.docker.io": "docker.io", "https://index.docker.io/": "docker.io",
		"quay.io": "quay.io", "registry.local:5000": "registry.local:5000", "http://localhost:5000": "localhost:5000",
		"[::1]:5000": "[::1]:5000",
		"quay":       "", "quay.io/org": "", "https://index.docker.io/v1/": "", "user:password@quay.io": "", "quay.io?x=y": "", "ftp://quay.io": "",
	} {
		f, h := newAPI()
		w := call(h, "POST", "/v1alpha2/validate-creds", `{"userName":"u","password":"p","registry":"`+text+`"}`)
		if want == "" {
			checkError(t, w, http.StatusBadRequest, "want a host")
			continue
		}
		if len(f.calls) != 1 || f.calls[0] != "login "+want+" u p" {
			t.Errorf("%q: %d %s, %q", text, w.Code, w.Body, f.calls)
		}
	}
}

func TestLoginRefuses(t *testing.T) {
	for body, says := range map[string]string{
		`{"password":"p"}`:                    "userName",
		`{"userName":" ","password":"p"}`:     "userName",
		`{"userName":"u"}`:                    "password",
		`{"userName":"u","password":null}`:    "password",
		`{"userName":"u","password":["hunt"]`: "JSON",
	} {
		f, h := newAPI()
		checkError(t, call(h, "POST", "/v1alpha2/validate-creds", body), http.StatusBadRequest, says)
		if len(f.calls) != 0 {
			t.Errorf("%s: went on to %q", body, f.calls)
		}
	}
}

// TestLoginUnreachable: no answer of a registry is not a refusal.
func TestLoginUnreachable(t *testing.T) {
	f, h := newAPI()
	f.err = &upstream.Error{Kind: upstream.Unreachable, Op: "log in to", Name: "quay.io", Host: "quay.io"}
	checkError(t, call(h, "POST", "/validate-creds", `{"request":{"userName":"u","password":"p"}}`), http.StatusBadGateway, "no connection to quay.io")
	f.err = &upstream.Error{Kind: upstream.Forbidden, Op: "log in to", Name: "10.0.0.1", Host: "10.0.0.1"}
	checkError(t, call(h, "POST", "/validate-creds", `{"request":{"userName":"u","password":"p"}}`), http.StatusForbidden, "10.0.0.1")
}

// TestLoginGuesses: the server tries few passwords for a client, at registries that
// the client's policy allows.
func TestLoginGuesses(t *testing.T) {
	f, h := newAPI(func(o *Options) {
		o.RegistryGuesses = front.NewGuesses(ratelimit.Rate{Events: 3, Per: time.Hour})
	})
	const body = `{"userName":"u","password":"p"}`
	for i := range 5 {
		w := call(h, "POST", "/v1alpha2/validate-creds", body)
		if i < 3 {
			checkJSON(t, w, "false")
			continue
		}
		checkError(t, w, http.StatusTooManyRequests, "too many wrong logins")
	}
	if len(f.calls) != 3 {
		t.Errorf("%d passwords were tried, want 3", len(f.calls))
	}
}

func TestLoginPolicy(t *testing.T) {
	f, h := newAPI(func(o *Options) {
		p, err := auth.ParsePattern("quay.io/team/*")
		if err != nil {
			t.Fatal(err)
		}
		o.Policies = auth.NewPolicies(map[string]auth.Policy{"*": {Images: []auth.Pattern{p}}})
	})
	f.accepted = true
	checkJSON(t, call(h, "POST", "/v1alpha2/validate-creds", `{"userName":"u","password":"p","registry":"quay.io"}`), "true")
	for _, registry := range []string{"registry.local:5000", "docker.io", "quay.io.evil.org"} {
		w := call(h, "POST", "/validate-creds", `{"request":{"userName":"u","password":"p","registry":"`+registry+`"}}`)
		checkError(t, w, http.StatusForbidden, "api.identities")
	}
	if len(f.calls) != 1 {
		t.Errorf("asked %q", f.calls)
	}
}
