package upstream

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/waveproxy/waveproxy/auth"
)

// bearer is a registry with a login service. The handlers may run on one server
// or on two.
type bearer struct {
	realm, service, scope string // of the challenge
	field                 string // that the token is in: token or access_token
	password              string // that user "ci" needs; empty gives tokens to everybody
	mu                    sync.Mutex
	issued                int
	queries               []string // of token requests
	revoked               bool     // tokens issued so far are no longer good
	good                  string
	bare                  bool // 401 for bad tokens has no challenge
}

func (b *bearer) login(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queries = append(b.queries, r.URL.RawQuery)
	if user, password, _ := r.BasicAuth(); b.password != "" && (user != "ci" || password != b.password) {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"errors":[{"code":"DENIED","message":"the body of the answer"}]}`)
		return
	}
	b.issued++
	b.good, b.revoked = fmt.Sprintf("t%d", b.issued), false
	field := b.field
	if field == "" {
		field = "token"
	}
	_ = json.NewEncoder(w).Encode(map[string]string{field: b.good})
}

func (b *bearer) registry(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	given := r.Header.Get("Authorization")
	if given != "" && given == "Bearer "+b.good && !b.revoked {
		serveManifest(w, r)
		return
	}
	if given == "" || !b.bare {
		challenge := fmt.Sprintf(`Bearer realm="%s",service="%s"`, b.realm, b.service)
		if b.scope != "" {
			challenge += fmt.Sprintf(`,scope="%s"`, b.scope)
		}
		w.Header().Set("Www-Authenticate", challenge)
	}
	w.WriteHeader(http.StatusUnauthorized)
	fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"the body of the answer"}]}`)
}

func (b *bearer) serve(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/v2/team/") {
		b.registry(w, r)
	} else {
		b.login(w, r)
	}
}

// start runs both on one server.
func (b *bearer) start(t *testing.T) *server {
	s := newServer(t, b.serve)
	b.realm = s.URL + "/token"
	return s
}

func TestAnonymousBearer(t *testing.T) {
	const pull = "repository:team/app:pull"
	tests := []struct {
		name      string
		bearer    *bearer
		twoHosts  bool
		realmPath string
		wantQuery string
	}{
		{"Docker Hub", &bearer{service: "registry.docker.io", scope: pull}, true, "/token", "scope=repository%3Ateam%2Fapp%3Apull&service=registry.docker.io"},
		{"GHCR's placeholder scope", &bearer{service: "ghcr.io", scope: "repository:user/image:pull"}, false, "/token",
			"scope=repository%3Ateam%2Fapp%3Apull&scope=repository%3Auser%2Fimage%3Apull&service=ghcr.io"},
		{"Quay", &bearer{service: "quay.io", scope: pull}, false, "/v2/auth", "scope=repository%3Ateam%2Fapp%3Apull&service=quay.io"},
		{"no scope, access_token", &bearer{service: "s", field: "access_token"}, false, "/token", "scope=repository%3Ateam%2Fapp%3Apull&service=s"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := test.bearer
			registry := newServer(t, b.serve)
			service, o := registry, listed(registry)
			b.realm = registry.URL + test.realmPath
			if test.twoHosts {
				service = newServer(t, b.login)
				_, port, _ := net.SplitHostPort(service.host())
				o.Registries["localhost:"+port] = Registry{PlainHTTP: true}
				b.realm = "http://localhost:" + port + test.realmPath
			}
			c, _ := newClient(t, o)

			wantManifest(t, c, image)
			if test.twoHosts {
				service.wantSeen(t, "GET "+test.realmPath)
				registry.wantSeen(t, "GET "+manifestPath, "GET "+manifestPath+" Bearer t1")
			} else {
				registry.wantSeen(t, "GET "+manifestPath, "GET "+test.realmPath, "GET "+manifestPath+" Bearer t1")
			}
			if len(b.queries) != 1 || b.queries[0] != test.wantQuery {
				t.Errorf("token queries %q, want %q", b.queries, test.wantQuery)
			}
			wantManifest(t, c, image)
			registry.wantSeen(t, "GET "+manifestPath+" Bearer t1")
		})
	}
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
			s.wantSeen(t, test.want...)
		})
	}
}

func TestIdentityToken(t *testing.T) {
	b := &bearer{}
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/token" {
			b.registry(w, r)
			return
		}
		if r.FormValue("grant_type") != "refresh_token" || r.FormValue("refresh_token") != "s3cr3t" || r.FormValue("scope") != "repository:team/app:pull" {
			t.Errorf("token request %v", r.Form)
		}
		b.good = "t1"
		fmt.Fprint(w, `{"access_token":"t1"}`)
	})
	b.realm = s.URL + "/token"
	o := listed(s)
	o.Keychain = keychain(auth.Credential{IdentityToken: "s3cr3t"})
	c, _ := newClient(t, o)
	wantManifest(t, c, image)
	s.wantSeen(t, "GET "+manifestPath, "POST /token", "GET "+manifestPath+" Bearer t1")
}

// ECR's private registries: Basic, and a 401 whose body is not JSON.
func ecr(w http.ResponseWriter, r *http.Request) {
	if _, password, _ := r.BasicAuth(); password != "hunter2" {
		w.Header().Set("Www-Authenticate", `Basic realm="https://123.dkr.ecr.us-east-1.amazonaws.com/",service="ecr.amazonaws.com"`)
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, "Not Authorized: the body of the answer\n")
		return
	}
	serveManifest(w, r)
}

func TestBasic(t *testing.T) {
	s := newServer(t, ecr)
	o := listed(s)
	o.Keychain = keychain(auth.Credential{Username: "AWS", Password: "hunter2"})
	c, _ := newClient(t, o)
	basic := " Basic " + base64.StdEncoding.EncodeToString([]byte("AWS:hunter2"))
	wantManifest(t, c, image)
	s.wantSeen(t, "GET "+manifestPath, "GET "+manifestPath+basic)
	wantManifest(t, c, image)
	s.wantSeen(t, "GET "+manifestPath+basic)
}

// A login takes three requests, and one connection: the refusal that starts it
// has a body which nobody wants.
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
