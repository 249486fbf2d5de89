package gar

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/auth/internal/cloud/cloudtest"
)

func TestIdentities(t *testing.T) {
	assertion := func(t *testing.T, r cloudtest.Request) {
		claims, err := base64.RawURLEncoding.DecodeString(strings.Split(r.Form.Get("assertion"), ".")[1])
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{`"iss":"pull@project.iam.gserviceaccount.com"`, `"scope":"` + scope + `"`} {
			if !strings.Contains(string(claims), part) {
				t.Errorf("claims %s lack %s", claims, part)
			}
		}
	}
	tests := map[string]struct {
		options func(*testing.T, *standIn) Options
		env     func(*testing.T, *standIn) map[string]string
		path    string
		check   func(*testing.T, cloudtest.Request)
	}{
		"key file": {
			options: func(t *testing.T, s *standIn) Options { return Options{KeyFile: s.keyFile(t)} },
			path:    "/token", check: assertion,
		},
		"key file and environment": {
			options: func(t *testing.T, s *standIn) Options { return Options{KeyFile: s.keyFile(t)} },
			env: func(t *testing.T, s *standIn) map[string]string {
				return map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": s.federationFile(t)}
			},
			path: "/token", check: assertion,
		},
		"key in the environment": {
			env: func(t *testing.T, s *standIn) map[string]string {
				return map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": s.keyFile(t)}
			},
			path: "/token", check: assertion,
		},
		"workload identity federation": {
			env: func(t *testing.T, s *standIn) map[string]string {
				return map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": s.federationFile(t)}
			},
			path: "/exchange", check: func(t *testing.T, r cloudtest.Request) {
				if r.Form.Get("subject_token") != subject || r.Form.Get("scope") != scope {
					t.Errorf("exchanged %v", r.Form)
				}
			},
		},
		"workload identity of the machine": {
			env: func(_ *testing.T, s *standIn) map[string]string {
				return map[string]string{"GCE_METADATA_HOST": s.Listener.Addr().String()}
			},
			path: "/computeMetadata/v1/instance/service-accounts/default/token", check: func(t *testing.T, r cloudtest.Request) {
				if r.Header.Get("Metadata-Flavor") != "Google" || r.Form.Get("scopes") != scope {
					t.Errorf("asked with %v for %v", r.Header, r.Form)
				}
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newGoogle(t)
			var o Options
			if test.options != nil {
				o = test.options(t, s)
			}
			if test.env != nil {
				for name, value := range test.env(t, s) {
					t.Setenv(name, value)
				}
			}
			k, _ := newTest(t, o)
			want(t, k, registry)
			want(t, k, "gcr.io")
			tokens := s.tokens()
			if len(tokens) != 1 || tokens[0].Path != test.path {
				t.Fatalf("requests: %v", tokens)
			}
			test.check(t, tokens[0])
		})
	}
}

func TestRegistries(t *testing.T) {
	s := newGoogle(t)
	k, _ := newTest(t, Options{KeyFile: s.keyFile(t)})
	for _, registry := range []string{
		"", "docker.io", "pkg.dev", "evilgcr.io", "gcr.io.example.org", "europe-docker.pkg.dev.example.org",
		"gcr.io:443", "europe-docker.pkg.dev:8443", "example.org/gcr.io", "evilpkg.dev", "gcr.io\n", ".gcr.io", "storage.googleapis.com",
	} {
		if c, err := k.Credential(t.Context(), auth.Target{Registry: registry}); err != nil || c != (auth.Credential{}) {
			t.Errorf("%q: got %v, %v", registry, c, err)
		}
	}
	if n := s.Count(); n != 0 {
		t.Errorf("%d requests for registries of others", n)
	}
	for _, registry := range []string{registry, "us-west1-docker.pkg.dev", "Europe-Docker.pkg.dev", "gcr.io", "eu.gcr.io"} {
		want(t, k, registry)
	}
}

func TestTokensAreShared(t *testing.T) {
	s := newGoogle(t)
	k, clock := newTest(t, Options{KeyFile: s.keyFile(t)})
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { want(t, k, registry) })
	}
	all.Wait()
	clock.Advance(44 * time.Minute)
	want(t, k, registry)
	if n := s.Count(); n != 1 {
		t.Errorf("%d requests for 51 questions, want 1", n)
	}
	clock.Advance(16 * time.Minute)
	want(t, k, registry)
	if n := s.Count(); n != 2 {
		t.Errorf("%d requests when the first token is over, want 2", n)
	}
}

func TestTokensWithoutTime(t *testing.T) {
	s := newGoogle(t)
	s.life = 0
	k, _ := newTest(t, Options{KeyFile: s.keyFile(t)})
	want(t, k, registry)
	want(t, k, registry)
	if n := s.Count(); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

func answers(status int, body string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) { cloudtest.JSON(w, status, body) }
}

func TestRefusals(t *testing.T) {
	keyFile := func(t *testing.T, s *standIn) Options { return Options{KeyFile: s.keyFile(t)} }
	tests := map[string]struct {
		options func(*testing.T, *standIn) Options // nil for the metadata server
		refuse  func(http.ResponseWriter)
		parts   []string
	}{
		"key deleted": {
			keyFile, answers(400, `{"error":"invalid_grant","error_description":"Invalid JWT Signature."}`),
			[]string{"get an access token: status 400: invalid_grant: Invalid JWT Signature; check that the key in /", "clock"},
		},
		"answer with a token": {keyFile, answers(500, `{"access_token":"`+access+`"}`), []string{"status 500; "}},
		"answer is a page":    {keyFile, answers(502, "<html>"+access), []string{"status 502; "}},
		"answer is cut":       {keyFile, answers(200, `{"access_token":"`+access), []string{"cannot fetch token"}},
		"redirected": {keyFile, func(w http.ResponseWriter) {
			w.Header().Set("Location", "http://elsewhere.example/")
			w.WriteHeader(http.StatusTemporaryRedirect)
		}, []string{"status 307"}},
		"federation": {
			func(t *testing.T, s *standIn) Options { return Options{KeyFile: s.federationFile(t)} },
			answers(400, `{"error":"invalid_target","error_description":"no pool for `+subject+`"}`),
			[]string{"status code 400", "invalid_target", "no pool for [hidden]"},
		},
		"metadata": {nil, answers(403, "not for "+access), []string{"403", "not for [hidden]", "GOOGLE_APPLICATION_CREDENTIALS"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newGoogle(t)
			s.refuse = test.refuse
			var o Options
			if test.options != nil {
				o = test.options(t, s)
			}
			t.Setenv("GCE_METADATA_HOST", s.Listener.Addr().String())
			k, _ := newTest(t, o)
			for range 2 {
				got, err := k.Credential(t.Context(), auth.Target{Registry: registry})
				cloudtest.WantError(t, err, secrets(), append(test.parts, "log in to Google for "+registry)...)
				if !got.IsZero() {
					t.Errorf("got %v and an error", got)
				}
			}
			if n := len(s.tokens()); n != 1 {
				t.Errorf("%d requests for 2 questions, want 1", n)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	s := newGoogle(t)
	file := s.keyFile(t)
	s.Close()
	k, _ := newTest(t, Options{KeyFile: file})
	_, err := k.Credential(t.Context(), auth.Target{Registry: registry})
	cloudtest.WantError(t, err, secrets(), "get an access token", "connection refused")
}

func TestKeyFiles(t *testing.T) {
	client := `{"installed":{"client_id":"id","client_secret":"GOCSPX-hunter2","redirect_uris":["http://localhost"]}}`
	tests := map[string]struct{ content, part string }{
		"empty":           {"", "not JSON"},
		"text":            {"hunter2", "not JSON"},
		"without a type":  {`{"private_key":"hunter2"}`, "a service account's key"},
		"an OAuth client": {client, "a service account's key"},
		"of no known use": {`{"type":"hunter"}`, `unknown credential type: "hunter"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path := write(t, test.content)
			_, err := New(Options{KeyFile: path})
			cloudtest.WantError(t, err, []string{"hunter2"}, path, test.part)

			t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", path)
			k, _ := newTest(t, Options{})
			_, err = k.Credential(t.Context(), auth.Target{Registry: registry})
			cloudtest.WantError(t, err, []string{"hunter2"}, "find Google identity")
		})
	}
	_, err := New(Options{KeyFile: "/nowhere/key.json"})
	cloudtest.WantError(t, err, nil, "/nowhere/key.json: no such file")

	path := write(t, `{"type":"service_account","private_key":"hunter2"}`)
	k, _ := newTest(t, Options{KeyFile: path})
	_, err = k.Credential(t.Context(), auth.Target{Registry: registry})
	cloudtest.WantError(t, err, []string{"hunter2"}, "private key", path)
}

func TestWaitersLeave(t *testing.T) {
	s := newGoogle(t)
	arrived, gate := make(chan struct{}), make(chan struct{})
	s.refuse = func(w http.ResponseWriter) {
		close(arrived)
		<-gate
		cloudtest.JSON(w, http.StatusOK, `{"access_token":"`+access+`","expires_in":3600}`)
	}
	k, _ := newTest(t, Options{KeyFile: s.keyFile(t)})
	ctx, leave := context.WithCancel(t.Context())
	errs := make(chan error)
	go func() {
		_, err := k.Credential(ctx, auth.Target{Registry: registry})
		errs <- err
	}()
	<-arrived
	leave()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(gate)
	want(t, k, registry)
	if n := s.Count(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

func TestRequestsEndWithTheLogin(t *testing.T) {
	s := newGoogle(t)
	arrived, gate := make(chan struct{}), make(chan struct{})
	s.refuse = func(http.ResponseWriter) {
		close(arrived)
		<-gate
	}
	k, _ := newTest(t, Options{KeyFile: s.keyFile(t)})
	k.client.Timeout = 0
	ctx, end := context.WithCancel(t.Context())
	errs := make(chan error)
	go func() {
		_, _, err := k.login(ctx)
		errs <- err
	}()
	<-arrived
	end()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(gate)
}
