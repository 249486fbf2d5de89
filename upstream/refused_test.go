package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

func TestRefusedLogin(t *testing.T) {
	wrong := auth.Credential{Username: "ci", Password: "hunter2"}
	withToken := func(h http.HandlerFunc) func(*testing.T) *upstreamtest.Registry {
		return func(t *testing.T) *upstreamtest.Registry {
			b := &bearer{}
			s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/token" {
					h(w, r)
				} else {
					b.registry(w, r)
				}
			})
			b.realm = s.URL + "/token?account=s3cr3t"
			return s
		}
	}
	plain := func(h http.HandlerFunc) func(*testing.T) *upstreamtest.Registry {
		return func(t *testing.T) *upstreamtest.Registry { return newServer(t, h) }
	}
	tests := []struct {
		name       string
		start      func(*testing.T) *upstreamtest.Registry
		credential auth.Credential
		want       Kind
		status     int
		says       string
	}{
		{"token service refuses the password", withToken(status(401)), wrong, Rejected, 401, `user "ci" from registries.example.org`},
		{"token service refuses all", withToken(status(403)), auth.Credential{}, Unauthorized, 403, "without credentials"},
		{"token service limits", withToken(status(429)), wrong, RateLimited, 429, "registries.example.org"},
		{"token service is down", withToken(status(503)), auth.Credential{}, Failed, 503, "503 Service Unavailable"},
		{"token service sends a page", withToken(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }), auth.Credential{}, Failed, 0, "decode"},
		{"no realm", plain(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Www-Authenticate", "Bearer")
			w.WriteHeader(401)
		}), wrong, Forbidden, 0, "http:// or https://"},
		{"realm with a user", withToken(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://u:hunter2@"+r.Host+"/", http.StatusFound)
		}), auth.Credential{}, Forbidden, 0, "user name"},
		{"Basic, no password", plain(ecr), auth.Credential{}, Unauthorized, 401, "configure credentials for example.org"},
		{"Basic, wrong password", plain(ecr), auth.Credential{Username: "AWS", Password: "s3cr3t"}, Rejected, 401, "does not cover this name"},
		{"refused without a challenge", plain(status(401)), wrong, Unauthorized, 401, "private or does not exist"},
		{"forbidden", plain(status(403)), wrong, Unauthorized, 403, "403 Forbidden"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := test.start(t)
			o := listed(s)
			if !test.credential.IsZero() {
				o.Keychain = keychain(test.credential)
			}
			c, _ := newClient(t, o)
			e := wantError(t, manifestError(t, c, image), test.want, "pull manifest example.org/team/app:1.0: ", test.says)
			if e.Status != test.status || e.Host != s.Host() || e.Registry != "example.org" {
				t.Errorf("status %d of %s for %s", e.Status, e.Host, e.Registry)
			}
		})
	}
}

func TestFailingKeychain(t *testing.T) {
	s := newServer(t, ecr)
	o := listed(s)
	cause := errors.New("helper is missing")
	o.Keychain = keychainFunc(func(auth.Target) (auth.Credential, error) { return auth.Credential{}, cause })
	c, _ := newClient(t, o)
	e := wantError(t, manifestError(t, c, image), Failed, "the look-up of a credential for example.org failed")
	if !errors.Is(e, cause) {
		t.Errorf("cause is lost: %v", e.Err)
	}
}

// Each cause of a failed pull has another remedy, so each must have its own
// message.
func TestEveryTroubleHasItsMessage(t *testing.T) {
	private, empty := newServer(t, ecr), newServer(t, status(404))
	down, secure := newServer(t, serveManifest), startServer(t, serveManifest, (*httptest.Server).StartTLS)
	down.Close()
	wrong := auth.Credential{Username: "ci", Password: "s3cr3t"}
	texts := map[string]string{}
	for name, test := range map[string]struct {
		url        string
		credential auth.Credential
		want       Kind
		says       []string
	}{
		"no credentials configured": {private.URL, auth.Credential{}, Unauthorized, []string{"401 Unauthorized without credentials", "configure credentials for example.org"}},
		"credentials rejected":      {private.URL, wrong, Rejected, []string{`401 Unauthorized to user "ci" from registries.example.org`, "the credential is wrong, has expired"}},
		"another source":            {private.URL, auth.Credential{Username: "ci", Password: "s3cr3t", Source: "docker config"}, Rejected, []string{`to user "ci" from docker config`}},
		"absent":                    {empty.URL, wrong, NotFound, []string{"404 Not Found: it does not exist", "check the name"}},
		"unreachable":               {down.URL, wrong, Unreachable, []string{"no connection to " + down.Host() + " (connection refused)"}},
		"not trusted":               {secure.URL, wrong, Untrusted, []string{"no trusted connection", "unknown authority", "give that as ca under registries"}},
		"no such host":              {"http://registry.invalid", wrong, Unresolvable, []string{"registry.invalid cannot be resolved (no such host)", "check the name, and DNS"}},
	} {
		c, _ := newClient(t, Options{Registries: map[string]Registry{"example.org": {URL: test.url}}, Keychain: keychain(test.credential)})
		c.hops.guard.plain.Resolver = nameServer(t)
		e := wantError(t, manifestError(t, c, image), test.want, append(test.says, "pull manifest example.org/team/app:1.0: ")...)
		for other, text := range texts {
			if text == e.Error() {
				t.Errorf("%s reads like %s: %s", name, other, text)
			}
		}
		texts[name] = e.Error()
	}
}
