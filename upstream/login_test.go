package upstream

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// bearer is a registry with a login service. The handlers may run on one server
// or on two.
type bearer struct {
	realm, service, scope string // of the challenge
	password              string // that user "ci" needs; empty: tokens need no login
	mu                    sync.Mutex
	issued                int
	revoked               bool // tokens issued so far are no longer good
	good                  string
	bare                  int    // status for bad tokens, without a challenge; 0: 401 with one
	answer                string // in place of the usual one; %[1]s is the token
}

func (b *bearer) login(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if user, password, _ := r.BasicAuth(); b.password != "" && (user != "ci" || password != b.password) {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"errors":[{"code":"DENIED","message":"the body of the answer"}]}`)
		return
	}
	b.issued++
	b.good, b.revoked = fmt.Sprintf("t%d", b.issued), false
	fmt.Fprintf(w, cmp.Or(b.answer, `{"token":"%[1]s"}`), b.good)
}

func (b *bearer) registry(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	given := r.Header.Get("Authorization")
	if given != "" && given == "Bearer "+b.good && !b.revoked {
		serveManifest(w, r)
		return
	}
	if given == "" || b.bare == 0 {
		challenge := fmt.Sprintf(`Bearer realm="%s",service="%s"`, b.realm, b.service)
		if b.scope != "" {
			challenge += fmt.Sprintf(`,scope="%s"`, b.scope)
		}
		w.Header().Set("Www-Authenticate", challenge)
		w.WriteHeader(http.StatusUnauthorized)
	} else {
		w.WriteHeader(b.bare)
	}
	fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"the body of the answer"}]}`)
}

func (b *bearer) serve(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/v2/team/") {
		b.registry(w, r)
	} else {
		b.login(w, r)
	}
}

// start runs the registry and the login service on one server.
func (b *bearer) start(t *testing.T) *upstreamtest.Registry {
	s := newServer(t, b.serve)
	b.realm = s.URL + "/token"
	return s
}

func TestBearerWithCredentials(t *testing.T) {
	tests := []struct {
		name       string
		credential auth.Credential
		want       []string
	}{
		{"password", auth.Credential{Username: "ci", Password: "hunter2"}, []string{
			"GET " + manifestPath, "GET /token Basic " + base64.StdEncoding.EncodeToString([]byte("ci:hunter2")), "GET " + manifestPath + " Bearer t1"}},
		{"registry token", auth.Credential{RegistryToken: "given"}, []string{
			"GET " + manifestPath, "GET " + manifestPath + " Bearer given"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := &bearer{password: "hunter2", good: "given"}
			s := b.start(t)
			o := listed(s)
			o.Keychain = keychain(test.credential)
			c, _ := newClient(t, o)
			wantManifest(t, c, image)
			s.WantRequests(t, test.want...)
		})
	}
}

// A login takes three requests, and one connection: the refusal that starts it
// has a body that no call reads.
func TestLoginKeepsItsConnection(t *testing.T) {
	var opened atomic.Int32
	b := &bearer{}
	s := startServer(t, b.serve, func(s *httptest.Server) {
		s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				opened.Add(1)
			}
		}
		s.Start()
	})
	b.realm = s.URL + "/token"
	c, _ := newClient(t, listed(s))
	wantManifest(t, c, image)
	if opened.Load() != 1 {
		t.Errorf("%d connections, want 1", opened.Load())
	}
}
