package upstream

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
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
			if test.twoHosts {
				service = newServer(t, b.login)
				o.Registries["auth.example.org"] = Registry{URL: service.URL}
			}
			b.realm = service.URL + test.realmPath
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

func TestConcurrentCallsLogInOnce(t *testing.T) {
	b := &bearer{}
	s := b.start(t)
	c, _ := newClient(t, listed(s))
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := c.Repository(image).Manifest(t.Context(), "1.0"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if b.issued != 1 {
		t.Errorf("%d token requests, want 1", b.issued)
	}
	// All of them hold the expired token now. One logs in for all.
	b.revoked = true
	for range 50 {
		wg.Go(func() {
			if _, err := c.Repository(image).Manifest(t.Context(), "1.0"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if b.issued != 2 {
		t.Errorf("%d token requests, want 2", b.issued)
	}
}

func TestExpiredTokenIsReplacedOnce(t *testing.T) {
	for _, bare := range []bool{false, true} {
		t.Run(fmt.Sprintf("without challenge %v", bare), func(t *testing.T) {
			b := &bearer{bare: bare}
			s := b.start(t)
			c, _ := newClient(t, listed(s))
			wantManifest(t, c, image)
			s.seen()
			b.revoked = true
			wantManifest(t, c, image)
			want := []string{"GET " + manifestPath + " Bearer t1", "GET /token", "GET " + manifestPath + " Bearer t2"}
			if bare { // it has to be asked for the challenge
				want = append(want[:1], append([]string{"GET " + manifestPath}, want[1:]...)...)
			}
			s.wantSeen(t, want...)
		})
	}
}

func TestLoginOutlivesItsFirstCaller(t *testing.T) {
	b := &bearer{}
	reached, gate := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			once.Do(func() { close(reached) })
			<-gate
		}
		b.serve(w, r)
	})
	b.realm = s.URL + "/token"
	c, _ := newClient(t, listed(s))
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error)
	go func() {
		_, err := c.Repository(image).Manifest(ctx, "1.0")
		first <- err
	}()
	<-reached
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("first caller got %v", err)
	}
	close(gate)
	wantManifest(t, c, image)
	if b.issued != 1 {
		t.Errorf("%d token requests, want 1", b.issued)
	}
}

// keychainFunc is a keychain in one function.
type keychainFunc func(auth.Target) (auth.Credential, error)

func (f keychainFunc) Credential(_ context.Context, t auth.Target) (auth.Credential, error) {
	return f(t)
}

func TestTargetsShareNoToken(t *testing.T) {
	var issued atomic.Int32
	var s *server
	s = newServer(t, func(w http.ResponseWriter, r *http.Request) {
		user, _, _ := r.BasicAuth()
		switch {
		case r.URL.Path == "/token":
			issued.Add(1)
			fmt.Fprintf(w, `{"token":"for-%s"}`, user)
		case r.Header.Get("Authorization") == "":
			w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="s"`, s.URL))
			w.WriteHeader(http.StatusUnauthorized)
		default:
			serveManifest(w, r)
		}
	})
	c, _ := newClient(t, Options{
		Registries: map[string]Registry{"example.org": {URL: s.URL}, "example.net": {URL: s.URL}},
		Keychain: keychainFunc(func(t auth.Target) (auth.Credential, error) {
			return auth.Credential{Username: t.Identity + "@" + t.Registry + "/" + t.Repository, Password: "hunter2"}, nil
		}),
	})
	targets := []auth.Target{
		image,
		{Identity: "anna", Registry: "example.org", Repository: "team/app"},
		{Identity: "ben", Registry: "example.org", Repository: "team/app"},
		{Identity: "ben", Registry: "example.net", Repository: "team/app"},
		{Identity: "ben", Registry: "example.net", Repository: "team/web"},
	}
	for range 2 {
		for _, target := range targets {
			s.seen()
			wantManifest(t, c, target)
			got := s.seen()
			want := "Bearer for-" + target.Identity + "@" + target.Registry + "/" + target.Repository
			if last := got[len(got)-1]; !strings.HasSuffix(last, " "+want) {
				t.Errorf("%v used %q", target, last)
			}
		}
	}
	if int(issued.Load()) != len(targets) {
		t.Errorf("%d tokens issued, want %d", issued.Load(), len(targets))
	}
}

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
