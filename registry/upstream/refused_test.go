package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/waveproxy/waveproxy/auth"
)

func TestRefusedLogin(t *testing.T) {
	wrong := auth.Credential{Username: "ci", Password: "hunter2"}
	withToken := func(h http.HandlerFunc) func(*testing.T) *server {
		return func(t *testing.T) *server {
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
	plain := func(h http.HandlerFunc) func(*testing.T) *server {
		return func(t *testing.T) *server { return newServer(t, h) }
	}
	tests := []struct {
		name       string
		start      func(*testing.T) *server
		credential auth.Credential
		want       Kind
		status     int
		says       string
	}{
		{"token service refuses the password", withToken(status(401)), wrong, Rejected, 401, "credential from registries.example.org"},
		{"token service refuses everybody", withToken(status(403)), auth.Credential{}, Unauthorized, 403, "without credentials"},
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
			if e.Status != test.status || e.Host != s.host() || e.Registry != "example.org" {
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
	e := wantError(t, manifestError(t, c, image), Failed, "whether it has a credential for example.org")
	if !errors.Is(e, cause) {
		t.Errorf("cause is lost: %v", e.Err)
	}
}
