package upstream

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// storage is the target of a registry's redirects. Like S3 it accepts a signature
// or an Authorization header, but not both.
func storage(t *testing.T, h http.HandlerFunc) *upstreamtest.Registry {
	return newServer(t, func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"Authorization", "Referer", "Cookie"} {
			if r.Header.Get(name) != "" {
				t.Errorf("the storage got %s: %s", name, r.Header.Get(name))
			}
		}
		if r.FormValue("signature") != "1" {
			t.Errorf("query %q", r.URL.RawQuery)
		}
		h(w, r)
	})
}

func TestRedirectLeavesCredentialsBehind(t *testing.T) {
	for _, code := range []int{301, 302, 303, 307, 308} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			// Both are on 127.0.0.1; another port is another origin.
			s3 := storage(t, serveBlob)
			var b *bearer
			registry := newServer(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == blobPath && r.Header.Get("Authorization") == "Bearer t1" {
					w.Header().Set("Location", s3.URL+"/bucket/data?signature=1")
					w.WriteHeader(code)
					fmt.Fprint(w, "the body of the answer")
					return
				}
				b.serve(w, r)
			})
			b = &bearer{realm: registry.URL + "/token", password: "hunter2"}
			c, _ := newClient(t, Options{
				Registries: map[string]Registry{"example.org": {URL: registry.URL}, "s3.example.org": {URL: s3.URL}},
				Keychain:   keychain(auth.Credential{Username: "ci", Password: "hunter2"}),
			})
			resp, err := blobRequest(t, c, "GET", http.Header{"Range": {"bytes=2-4"}})
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusPartialContent || string(body) != "234" {
				t.Errorf("%d %q %v", resp.StatusCode, body, err)
			}
			s3.WantRequests(t, "GET /bucket/data")

			layer, err := c.Repository(image).Layer(t.Context(), blobDesc)
			if err != nil {
				t.Fatal(err)
			}
			defer layer.Close()
			if body, err := io.ReadAll(layer); err != nil || string(body) != blobData {
				t.Errorf("%q %v", body, err)
			}
		})
	}
}

func TestRelativeRedirect(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == blobPath {
			w.Header().Set("Location", "../../elsewhere?x=1")
			w.WriteHeader(http.StatusTemporaryRedirect)
			return
		}
		serveBlob(w, r)
	})
	c, _ := newClient(t, listed(s))
	resp, err := blobRequest(t, c, "GET", http.Header{})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	s.WantRequests(t, "GET "+blobPath, "GET /v2/team/elsewhere")
}

func TestRedirectCount(t *testing.T) {
	chain := func(length int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			var n int
			_, _ = fmt.Sscanf(r.URL.RawQuery, "%d", &n)
			if n == length {
				serveManifest(w, r)
				return
			}
			http.Redirect(w, r, fmt.Sprintf("%s?%d", r.URL.Path, n+1), http.StatusFound)
		}
	}
	s := newServer(t, chain(10))
	c, _ := newClient(t, listed(s))
	wantManifest(t, c, image)

	s = newServer(t, chain(1<<30))
	c, delays := newClient(t, listed(s))
	wantError(t, manifestError(t, c, image), Failed, "more than 10 redirects")
	if n := len(s.TakeLines()); n != 11 || len(delays.All()) != 0 {
		t.Errorf("%d requests, %d retries", n, len(delays.All()))
	}
}

func TestRefusedRedirects(t *testing.T) {
	for location, says := range map[string]string{
		"ftp://example.org/x":            "http:// or https://",
		"file:///etc/passwd":             "http:// or https://",
		"http://u:hunter2@example.org/x": "user name",
	} {
		t.Run(location, func(t *testing.T) {
			s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", location)
				w.WriteHeader(http.StatusFound)
			})
			c, _ := newClient(t, listed(s))
			wantError(t, manifestError(t, c, image), Forbidden, says)
		})
	}
	t.Run("unreadable", func(t *testing.T) {
		s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://example.org/%zz?signature=a b")
			w.WriteHeader(http.StatusFound)
		})
		c, _ := newClient(t, listed(s))
		wantError(t, manifestError(t, c, image), Failed, "Location")
	})
	t.Run("nowhere", func(t *testing.T) {
		s := newServer(t, status(http.StatusFound))
		c, _ := newClient(t, listed(s))
		wantError(t, manifestError(t, c, image), Failed, "302 Found")
	})
}

// An answer that no digest verifies must not leave TLS after a request over TLS.
func TestRedirectOutOfTLS(t *testing.T) {
	plain := newServer(t, serveManifest)
	secure := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, plain.URL+"/x", http.StatusFound)
	}, (*httptest.Server).StartTLS)
	c, _ := newClient(t, Options{Registries: map[string]Registry{
		"example.org": {URL: secure.URL, CA: certificate(t, secure)}, "plain.example.org": {URL: plain.URL},
	}})
	wantError(t, manifestError(t, c, image), Forbidden, "from https to http")
	_, _, err := c.Fetch(t.Context(), secure.URL)
	wantError(t, err, Forbidden, "from https to http")
	plain.WantRequests(t)
	if _, err := c.Repository(image).Manifest(t.Context(), digest.FromBytes(manifestBody).String()); err != nil {
		t.Error(err)
	}
	resp, err := blobRequest(t, c, "GET", http.Header{})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	plain.WantRequests(t, "GET /x", "GET /x")
}

// A storage's refusal of a signature says nothing about the user's credential. A
// storage that fails is retried, and the error names it without the signature.
func TestFailingStorage(t *testing.T) {
	tests := []struct {
		handler http.HandlerFunc
		want    Kind
		says    string
	}{
		{status(403), Failed, "403 Forbidden"},
		{status(401), Failed, "401 Unauthorized"},
		{status(404), NotFound, "404 Not Found"},
		{status(503), Failed, "503 Service Unavailable"},
		{upstreamtest.Reset, Unreachable, "no connection"},
		{cut, Invalid, "cut the answer off"},
	}
	for _, test := range tests {
		s3 := storage(t, test.handler)
		registry := newServer(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, s3.URL+"/data?signature=1", http.StatusFound)
		})
		c, _ := newClient(t, Options{Registries: map[string]Registry{
			"example.org": {URL: registry.URL}, "s3.example.org": {URL: s3.URL},
		}})
		e := wantError(t, manifestError(t, c, image), test.want, s3.Host(), test.says)
		if e.Host != s3.Host() {
			t.Errorf("host %s, want the storage %s", e.Host, s3.Host())
		}
	}
}

// A storage that refuses or fails does not end a cached login.
func TestFailingStorageCostsNoLogin(t *testing.T) {
	for _, code := range []int{400, 401, 403} {
		s3 := storage(t, status(code))
		b := &bearer{}
		registry := newServer(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == blobPath && r.Header.Get("Authorization") == "Bearer t1" {
				http.Redirect(w, r, s3.URL+"/data?signature=1", http.StatusTemporaryRedirect)
			} else {
				b.serve(w, r)
			}
		})
		b.realm = registry.URL + "/token"
		c, _ := newClient(t, Options{Registries: map[string]Registry{
			"example.org": {URL: registry.URL}, "s3.example.org": {URL: s3.URL},
		}})
		for range 3 {
			_, err := c.Repository(image).Layer(t.Context(), blobDesc)
			wantError(t, err, Failed, s3.Host(), fmt.Sprint(code))
		}
		if n := len(registry.TakeLines()); n != 5 || b.issued != 1 {
			t.Errorf("%d: %d requests with %d logins, want 5 with 1", code, n, b.issued)
		}
	}
}
