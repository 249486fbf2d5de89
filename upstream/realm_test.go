package upstream

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/auth"
)

// logins are the kinds of credential, which differ in the form of the token
// request.
var logins = map[string]auth.Credential{
	"anonymous":      {},
	"password":       {Username: "ci", Password: "hunter2"},
	"identity token": {IdentityToken: "s3cr3t"},
}

// A call over TLS logs in over TLS only.
func TestRealmOutOfTLS(t *testing.T) {
	plain := newServer(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"token":"t1","access_token":"t1"}`) })
	var b bearer
	secure := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			http.Redirect(w, r, plain.URL+"/token", http.StatusFound)
		} else {
			b.registry(w, r)
		}
	}, (*httptest.Server).StartTLS)
	registry := newServer(t, b.registry) // without TLS, but its login service has it
	for name, test := range map[string]struct{ registry, realm, says string }{
		"realm":                     {secure.URL, plain.URL + "/token", "a login service without TLS"},
		"redirect of the realm":     {secure.URL, secure.URL + "/token", "a login service without TLS"},
		"redirect of a realm's own": {registry.URL, secure.URL + "/token", "a redirect from https to http"},
		"another scheme":            {secure.URL, "file:///etc/passwd", "want http:// or https://"},
	} {
		for login, credential := range logins {
			t.Run(name+", "+login, func(t *testing.T) {
				b.realm = test.realm
				c, delays := newClient(t, Options{
					Registries: map[string]Registry{
						"example.org": {URL: test.registry}, "secure.example.org": {URL: secure.URL, CA: certificate(t, secure)},
						"plain.example.org": {URL: plain.URL},
					},
					Keychain: keychain(credential),
				})
				wantError(t, manifestError(t, c, image), Forbidden, "refusing to go where", test.says)
				// By digest, because a redirect of such a request could leave
				// TLS.
				_, err := c.Repository(image).Manifest(t.Context(), digest.FromBytes(manifestBody).String())
				wantError(t, err, Forbidden, test.says)
				plain.WantRequests(t)
				if len(delays.All()) != 0 {
					t.Errorf("%d retries", len(delays.All()))
				}
			})
		}
	}
}

// A login service may redirect the server, but the credentials must stay.
func TestRealmRedirectLeavesCredentialsBehind(t *testing.T) {
	for login, credential := range logins {
		for _, code := range []int{301, 302, 303, 307, 308} {
			t.Run(fmt.Sprint(login, " ", code), func(t *testing.T) {
				elsewhere := newServer(t, func(w http.ResponseWriter, r *http.Request) {
					if r.Header.Get("Authorization") != "" || r.FormValue("refresh_token") != "" || r.ContentLength > 0 {
						t.Errorf("the other host got %q and a body of %d bytes", r.Header.Get("Authorization"), r.ContentLength)
					}
					fmt.Fprint(w, `{"token":"t1","access_token":"t1"}`)
				})
				b := &bearer{good: "t1"}
				s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/token" {
						w.Header().Set("Location", elsewhere.URL+"/token")
						w.WriteHeader(code)
					} else {
						b.registry(w, r)
					}
				})
				b.realm = s.URL + "/token"
				c, _ := newClient(t, Options{
					Registries: map[string]Registry{"example.org": {URL: s.URL}, "elsewhere.example.org": {URL: elsewhere.URL}},
					Keychain:   keychain(credential),
				})
				if credential.IdentityToken != "" && code >= 307 { // which would repeat the form that it is in
					wantError(t, manifestError(t, c, image), Forbidden, "hands credentials on to another host")
					elsewhere.WantRequests(t)
					return
				}
				wantManifest(t, c, image)
				elsewhere.WantRequests(t, "GET /token")
			})
		}
	}
}

// A login service may redirect within its origin.
func TestRealmRedirectKeepsCredentials(t *testing.T) {
	for login, credential := range logins {
		t.Run(login, func(t *testing.T) {
			b := &bearer{good: "t1"}
			s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/token":
					http.Redirect(w, r, "/login", http.StatusTemporaryRedirect)
				case "/login":
					_, password, _ := r.BasicAuth()
					if password != credential.Password || r.FormValue("refresh_token") != credential.IdentityToken {
						t.Errorf("login with %q and %v", password, r.Form)
					}
					fmt.Fprint(w, `{"token":"t1","access_token":"t1"}`)
				default:
					b.registry(w, r)
				}
			})
			b.realm = s.URL + "/token"
			o := listed(s)
			o.Keychain = keychain(credential)
			c, _ := newClient(t, o)
			wantManifest(t, c, image)
		})
	}
}

// An origin is scheme, host and port. If one of them differs, no part of the
// login is sent. Names and ports are invented: every connection reaches one of
// two servers, one with TLS and one without.
func TestAuthorizationStaysWithItsOrigin(t *testing.T) {
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("ci:hunter2"))
	for name, test := range map[string]struct {
		from, to string
		keeps    bool
	}{
		"path":          {"https://registry.test:5000", "https://registry.test:5000", true},
		"default port":  {"https://registry.test", "https://registry.test:443", true},
		"host":          {"https://registry.test:5000", "https://storage.test:5000", false},
		"subdomain":     {"https://registry.test:5000", "https://cdn.registry.test:5000", false},
		"port":          {"https://registry.test:5000", "https://registry.test:5001", false},
		"http to https": {"http://registry.test:5000", "https://registry.test:5000", false},
		"https to http": {"https://registry.test:5000", "http://registry.test:5000", false},
	} {
		t.Run(name, func(t *testing.T) {
			arrived := 0
			serve := func(w http.ResponseWriter, r *http.Request) {
				given := r.Header.Get("Authorization")
				switch {
				case r.URL.Path == "/data":
					arrived++
					if want := map[bool]string{true: basic}[test.keeps]; given != want {
						t.Errorf("Authorization %q, want %q", given, want)
					}
					serveBlob(w, r)
				case given != basic:
					w.Header().Set("Www-Authenticate", `Basic realm="registry"`)
					w.WriteHeader(http.StatusUnauthorized)
				default:
					w.Header().Set("Location", test.to+"/data")
					w.WriteHeader(http.StatusTemporaryRedirect)
				}
			}
			plain, secure := newServer(t, serve), startServer(t, serve, (*httptest.Server).StartTLS)
			c, _ := newClient(t, Options{
				Registries: map[string]Registry{"example.org": {URL: test.from}},
				Keychain:   keychain(auth.Credential{Username: "ci", Password: "hunter2"}),
			})
			for _, transport := range []*http.Transport{direct(c, true, "").short, direct(c, true, "").long} {
				transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
					return (&net.Dialer{}).DialContext(ctx, network, plain.Host())
				}
				transport.DialTLSContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
					d := &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
					return d.DialContext(ctx, network, secure.Host())
				}
			}
			for range 2 { // logging in, and with the login that is known
				resp, err := blobRequest(t, c, "GET", http.Header{})
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				layer, err := c.Repository(image).Layer(t.Context(), blobDesc)
				if err != nil {
					t.Fatal(err)
				}
				layer.Close()
			}
			if arrived != 4 {
				t.Errorf("%d requests followed the redirect, want 4", arrived)
			}
		})
	}
}
