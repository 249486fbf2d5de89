package upstream

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/auth"
)

// shape is the form in which a kind of registry asks for a login.
type shape struct {
	name       string
	challenges []string // of the 401 for team/app; %s is the login service's URL
	otherHost  bool     // whether the login service has one of its own
	path       string   // of token requests
	query      string   // of those
	answer     string   // to those; %[1]s is the token
	posts      bool     // whether it takes identity tokens
	life       time.Duration
}

const pull = "repository%3Ateam%2Fapp%3Apull"

var shapes = []shape{
	{"Docker Hub", []string{`Bearer realm="%s/token",service="registry.docker.io",scope="repository:team/app:pull"`},
		true, "/token", "scope=" + pull + "&service=registry.docker.io",
		`{"token":"%[1]s","access_token":"%[1]s","expires_in":300,"issued_at":"2026-01-31T23:59:59.123456789Z"}`, true, 290 * time.Second},
	{"GHCR", []string{`Bearer realm="%s/token",service="ghcr.io",scope="repository:team/app:pull"`},
		false, "/token", "scope=" + pull + "&service=ghcr.io", `{"token":"%[1]s"}`, false, 50 * time.Second},
	{"GHCR's placeholder scope", []string{`Bearer realm="%s/token",service="ghcr.io",scope="repository:user/image:pull"`},
		false, "/token", "scope=" + pull + "&scope=repository%3Auser%2Fimage%3Apull&service=ghcr.io", `{"token":"%[1]s"}`, false, 50 * time.Second},
	{"Quay", []string{`Bearer realm="%s/v2/auth",service="quay.io",scope="repository:team/app:pull"`},
		false, "/v2/auth", "scope=" + pull + "&service=quay.io", `{"token":"%[1]s"}`, false, 50 * time.Second},
	{"Quay, no scope", []string{`Bearer realm="%s/v2/auth",service="quay.io"`},
		false, "/v2/auth", "scope=" + pull + "&service=quay.io", `{"token":"%[1]s"}`, false, 50 * time.Second},
	{"GitLab", []string{`Bearer realm="%s/jwt/auth",service="container_registry",scope="repository:team/app:pull"`},
		true, "/jwt/auth", "scope=" + pull + "&service=container_registry", `{"token":"%[1]s"}`, false, 50 * time.Second},
	{"Harbor", []string{`Bearer realm="%s/service/token",service="harbor-registry",scope="repository:team/app:pull"`},
		false, "/service/token", "scope=" + pull + "&service=harbor-registry",
		`{"token":"%[1]s","access_token":"","expires_in":1800,"issued_at":"2021-07-08T08:31:46Z"}`, false, 1790 * time.Second},
	{"Gitea", []string{`Bearer realm="%s/v2/token",service="container_registry",scope="*"`, `Basic realm="Gitea Container Registry"`},
		false, "/v2/token", "scope=%2A&scope=" + pull + "&service=container_registry", `{"token":"%[1]s"}`, false, 50 * time.Second},
	{"Forgejo, two challenges in a line", []string{`Bearer realm="%s/v2/token",service="container_registry",scope="*",Basic realm="%[1]s/v2",service="container_registry",scope="*"`},
		false, "/v2/token", "scope=%2A&scope=" + pull + "&service=container_registry", `{"token":"%[1]s"}`, false, 50 * time.Second},
	{"ECR public", []string{`Bearer realm="%s/token/",service="public.ecr.aws",scope="aws"`},
		false, "/token/", "scope=aws&scope=" + pull + "&service=public.ecr.aws", `{"token":"%[1]s"}`, false, 50 * time.Second},
	{"Artifact Registry", []string{`Bearer realm="%s/v2/token",service="us-docker.pkg.dev",scope="repository:team/app:pull"`},
		false, "/v2/token", "scope=" + pull + "&service=us-docker.pkg.dev", `{"token":"%[1]s","expires_in":3600}`, false, 3590 * time.Second},
	{"Artifact Registry, realm alone", []string{`Bearer realm="%s/v2/token"`},
		false, "/v2/token", "scope=" + pull, `{"token":"%[1]s","expires_in":43200}`, false, time.Hour},
	{"gcr.io, service without quotes", []string{`Bearer realm="%s/v2/token",service=gcr.io`},
		false, "/v2/token", "scope=" + pull + "&service=gcr.io", `{"token":"%[1]s"}`, false, 50 * time.Second},
	{"ACR", []string{`Bearer realm="%s/oauth2/token",service="team.azurecr.io",scope="repository:team/app:pull"`},
		false, "/oauth2/token", "scope=" + pull + "&service=team.azurecr.io", `{"access_token":"%[1]s"}`, true, 50 * time.Second},
}

// standIn is a registry of a shape that requires one kind of login.
type standIn struct {
	shape
	t          *testing.T
	realm      string // the login service's URL
	wantHeader string // Authorization of token requests
	wantToken  string // the identity token that they have
	issued     int
}

func (s *standIn) registry(w http.ResponseWriter, r *http.Request) {
	if s.issued > 0 && r.Header.Get("Authorization") == fmt.Sprintf("Bearer t%d", s.issued) {
		serveManifest(w, r)
		return
	}
	for _, c := range s.challenges {
		if strings.Contains(c, "%") {
			c = fmt.Sprintf(c, s.realm)
		}
		w.Header().Add("Www-Authenticate", c)
	}
	w.WriteHeader(http.StatusUnauthorized)
}

func (s *standIn) login(w http.ResponseWriter, r *http.Request) {
	if got := r.Header.Get("Authorization"); got != s.wantHeader {
		s.t.Errorf("login with %q, want %q", got, s.wantHeader)
	}
	query := r.URL.RawQuery
	if r.Method == http.MethodPost {
		_ = r.ParseForm()
		query = url.Values{"scope": strings.Fields(r.Form.Get("scope")), "service": r.Form["service"]}.Encode()
		if r.Form.Get("grant_type") != "refresh_token" || r.Form.Get("client_id") == "" {
			s.t.Errorf("form %v", r.Form)
		}
	}
	if got := r.FormValue("refresh_token"); got != s.wantToken {
		s.t.Errorf("login with identity token %q, want %q", got, s.wantToken)
	}
	if query != s.query {
		s.t.Errorf("login for %s, want %s", query, s.query)
	}
	s.issued++
	fmt.Fprintf(w, s.answer, fmt.Sprintf("t%d", s.issued))
}

func (s *standIn) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == s.path {
		s.login(w, r)
	} else {
		s.registry(w, r)
	}
}

// With every shape, a pull costs three requests at the login, one while the token
// lives, and three again when it has expired.
func TestRegistries(t *testing.T) {
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("ci:hunter2"))
	for _, login := range []struct {
		name, method       string
		credential         auth.Credential
		header, identified string
	}{
		{"anonymous", "GET", auth.Credential{}, "", ""},
		{"password", "GET", auth.Credential{Username: "ci", Password: "hunter2"}, basic, ""},
		{"identity token", "POST", auth.Credential{IdentityToken: "s3cr3t"}, "", "s3cr3t"},
	} {
		for _, shape := range shapes {
			if login.method == "POST" && !shape.posts {
				continue
			}
			t.Run(shape.name+" "+login.name, func(t *testing.T) {
				s := &standIn{shape: shape, t: t, wantHeader: login.header, wantToken: login.identified}
				registry := newServer(t, s.serve)
				service, o := registry, listed(registry)
				s.realm = registry.URL
				if shape.otherHost {
					service = newServer(t, s.login)
					_, port, _ := net.SplitHostPort(service.Host())
					o.Registries["localhost:"+port] = Registry{PlainHTTP: true}
					s.realm = "http://localhost:" + port
				}
				o.Keychain = keychain(login.credential)
				c, _ := newClient(t, o)
				now := time.Now()
				c.tokens.now = func() time.Time { return now }

				logsIn := func(n int) {
					t.Helper()
					wantManifest(t, c, image)
					want := []string{"GET " + manifestPath, fmt.Sprintf("GET %s Bearer t%d", manifestPath, n)}
					token := strings.TrimSpace(login.method + " " + shape.path + " " + login.header)
					if service == registry {
						want = slices.Insert(want, 1, token)
					} else {
						service.WantRequests(t, token)
					}
					registry.WantRequests(t, want...)
				}
				logsIn(1)
				now = now.Add(shape.life - time.Second)
				wantManifest(t, c, image)
				registry.WantRequests(t, "GET "+manifestPath+" Bearer t1")
				now = now.Add(time.Second)
				logsIn(2)
			})
		}
	}
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
	now := time.Now()
	c.tokens.now = func() time.Time { return now }
	basic := " Basic " + base64.StdEncoding.EncodeToString([]byte("AWS:hunter2"))
	wantManifest(t, c, image)
	s.WantRequests(t, "GET "+manifestPath, "GET "+manifestPath+basic)
	now = now.Add(loginTTL - time.Second)
	wantManifest(t, c, image)
	s.WantRequests(t, "GET "+manifestPath+basic)
	now = now.Add(time.Second)
	wantManifest(t, c, image)
	s.WantRequests(t, "GET "+manifestPath, "GET "+manifestPath+basic)
}

// ECR answers 403 when its password has expired; the keychain has the next one.
func TestExpiredPassword(t *testing.T) {
	password := "hunter2"
	expired := false
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if _, given, _ := r.BasicAuth(); expired && given == "hunter2" {
			w.WriteHeader(http.StatusForbidden)
			return
		} else if given == "" {
			w.Header().Set("Www-Authenticate", `Basic realm="ecr"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		serveManifest(w, r)
	})
	o := listed(s)
	o.Keychain = keychainFunc(func(auth.Target) (auth.Credential, error) {
		return auth.Credential{Username: "AWS", Password: password}, nil
	})
	c, _ := newClient(t, o)
	wantManifest(t, c, image)
	s.TakeLines()
	expired, password = true, "s3cr3t"
	basic := func(password string) string {
		return " Basic " + base64.StdEncoding.EncodeToString([]byte("AWS:"+password))
	}
	wantManifest(t, c, image)
	s.WantRequests(t, "GET "+manifestPath+basic("hunter2"), "GET "+manifestPath, "GET "+manifestPath+basic("s3cr3t"))
}
