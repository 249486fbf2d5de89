package api

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/ratelimit"
)

// passwords is a check of fixed passwords without hashes.
type passwords map[string]string

func (p passwords) Check(_ context.Context, user, password string) error {
	if want, known := p[user]; !known || want != password {
		return auth.ErrWrongLogin
	}
	return nil
}

var errIssuerDown = errors.New("issuer down, having seen hunter2")

func withPasswords(o *Options) { o.Passwords = passwords{"ann": "hunter2", "bob": "hunter3"} }

func withTokens(t *testing.T) func(*Options) {
	t.Helper()
	static, err := auth.StaticTokens(map[string]string{"ci": "hunter2hunter2hunter2", "team-a": "hunter3hunter3hunter3"})
	if err != nil {
		t.Fatal(err)
	}
	return func(o *Options) { o.Bearer = auth.FirstBearer(static, issuerDown{}) }
}

// issuerDown cannot check passwords that look like JSON web tokens.
type issuerDown struct{}

func (issuerDown) Identity(_ context.Context, token string) (string, error) {
	if strings.Count(token, ".") == 2 {
		return "", errIssuerDown
	}
	return "", auth.ErrWrongLogin
}

func TestCallerLogin(t *testing.T) {
	const plain = `{"containerImage": "a"}`
	for name, test := range map[string]struct {
		with   func(*Options)
		header string // Authorization
		body   string
		status int
		want   string // whose call it is
	}{
		"without login":           {func(*Options) {}, "", plain, 200, ""},
		"a Platform token":        {func(*Options) {}, "Bearer x", plain, 200, "platform:2d711642b726b044"},
		"a password":              {withPasswords, basic("ann", "hunter2"), plain, 200, "ann"},
		"another's password":      {withPasswords, basic("ann", "hunter3"), plain, 401, ""},
		"no password":             {withPasswords, "", plain, 401, ""},
		"a token for a password":  {withPasswords, "Bearer hunter2", plain, 401, ""},
		"a token":                 {withTokens(t), "Bearer hunter2hunter2hunter2", plain, 200, "ci"},
		"a token in the body":     {withTokens(t), "", `{"containerImage": "a", "towerAccessToken": "hunter3hunter3hunter3"}`, 200, "team-a"},
		"a wrong token":           {withTokens(t), "Bearer hunter2", plain, 401, ""},
		"a wrong one in the body": {withTokens(t), "", `{"containerImage": "a", "towerAccessToken": "hunter3"}`, 401, ""},
		"no token":                {withTokens(t), "", plain, 401, ""},
		"a password for a token":  {withTokens(t), basic("ci", "hunter2hunter2hunter2"), plain, 401, ""},
		"another's name": {func(o *Options) {
			withTokens(t)(o)
			o.Bearer = auth.Apart(o.Bearer, func(name string) bool { return name == "ci" })
		}, "Bearer hunter2hunter2hunter2", plain, 403, ""},
		"the issuer is down": {withTokens(t), "Bearer a.b.c", plain, 503, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f, h := newAPI(test.with)
			for _, path := range []string{"/v1alpha2/container", "/container-token"} {
				f.calls, f.resolved = nil, nil
				w := call(h, "POST", path, test.body, "Authorization", test.header)
				if w.Code != test.status || strings.Contains(w.Body.String(), "hunter") {
					t.Fatalf("%s: %d %s, want %d", path, w.Code, w.Body, test.status)
				}
				if test.status != 200 {
					if len(f.calls) != 0 {
						t.Errorf("went on to %q", f.calls)
					}
					if challenge := w.Header().Get("WWW-Authenticate"); (challenge != "") != (test.status == 401) {
						t.Errorf("challenge %q", challenge)
					}
					continue
				}
				if len(f.resolved) != 1 || f.resolved[0].Identity != test.want {
					t.Errorf("%s: resolved %v, want for %q", path, f.resolved, test.want)
				}
			}
		})
	}
}

// TestEveryEndpointThatWorksWantsALogin: every endpoint that makes the server
// work requires a login. Reading about a token requires only the token.
func TestEveryEndpointThatWorksWantsALogin(t *testing.T) {
	for _, r := range (server{}).routes() {
		f, h := newAPI(withPasswords)
		path := strings.NewReplacer("{id}", string(token), "{part}", "status").Replace(r.path)
		w := call(h, r.method, path, "{}")
		if want := r.method == http.MethodPost; (w.Code == http.StatusUnauthorized) != want {
			t.Errorf("%s %s: %d %s", r.method, r.path, w.Code, w.Body)
		}
		if r.method == http.MethodPost && len(f.calls) != 0 {
			t.Errorf("%s %s went on to %q", r.method, r.path, f.calls)
		}
	}
}

// TestNoBodyIsReadWithoutALogin: a login must prevent 32 MiB from every address.
// Only the beginning of a body is read, because it may have a token.
func TestNoBodyIsReadWithoutALogin(t *testing.T) {
	for name, test := range map[string]struct {
		with          func(*Options)
		path          string
		authorization string
		begins        string
		most          int
	}{
		"wrong password":        {withPasswords, container, basic("ann", "wrong"), "", 0},
		"no password":           {withPasswords, container, "", "", 0},
		"wrong token":           {withTokens(t), container, "Bearer wrong", "", 0},
		"no token":              {withTokens(t), container, "", "", window},
		"wrong token in body":   {withTokens(t), container, "", `{"towerAccessToken":"wrong","containerFile":"`, window},
		"token behind too much": {withTokens(t), container, "", `{"containerFile":"` + strings.Repeat("x", window) + `","towerAccessToken":"hunter2hunter2hunter2","condaFile":"`, window},
		"where no token can be": {withTokens(t), "/v1alpha2/validate-creds", "", `{"towerAccessToken":"hunter2hunter2hunter2","password":"`, 0},
	} {
		for _, length := range []int64{-1, 1 << 20} {
			_, h := newAPI(test.with)
			body := &countingReader{begins: test.begins}
			r := httptest.NewRequest("POST", test.path, body)
			r.ContentLength = length
			r.Header.Set("Content-Type", "application/json")
			if test.authorization != "" {
				r.Header.Set("Authorization", test.authorization)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != http.StatusUnauthorized || body.read > test.most || w.Header().Get("WWW-Authenticate") == "" {
				t.Errorf("%s, length %d: status %d after %d bytes, want 401 after %d: %s", name, length, w.Code, body.read, test.most, w.Body)
			}
		}
	}
}

// countingReader is an endless body with the given beginning.
type countingReader struct {
	begins string
	read   int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n := 0
	if c.read < len(c.begins) {
		n = copy(p, c.begins[c.read:])
	}
	for i := range p[n:] {
		p[n+i] = 'x'
	}
	c.read += len(p)
	return len(p), nil
}

// TestOneLogin: a request's password or token is compared once, because comparing
// costs time.
func TestOneLogin(t *testing.T) {
	for name, test := range map[string]struct {
		options       func(*Options, *countedLogins)
		authorization string
		body          string
	}{
		"password": {func(o *Options, c *countedLogins) { o.Passwords = c }, basic("ann", "x"), `{"containerImage":"a"}`},
		"token":    {func(o *Options, c *countedLogins) { o.Bearer = c }, "Bearer x", `{"containerImage":"a"}`},
		"in body":  {func(o *Options, c *countedLogins) { o.Bearer = c }, "", `{"containerImage":"a","towerAccessToken":"x"}`},
		"twice":    {func(o *Options, c *countedLogins) { o.Bearer = c }, "Bearer x", `{"containerImage":"a","towerAccessToken":"x"}`},
	} {
		c := &countedLogins{}
		f, h := newAPI(func(o *Options) { test.options(o, c) })
		if w := call(h, "POST", container, test.body, "Authorization", test.authorization); w.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", name, w.Code, w.Body)
		}
		if c.logins != 1 || f.resolved[0].Identity != "ann" {
			t.Errorf("%s: %d logins, as %q", name, c.logins, f.resolved[0].Identity)
		}
	}
}

// countedLogins accepts every login.
type countedLogins struct{ logins int }

func (c *countedLogins) Check(context.Context, string, string) error { c.logins++; return nil }

func (c *countedLogins) Identity(context.Context, string) (string, error) {
	c.logins++
	return "ann", nil
}

func TestPolicy(t *testing.T) {
	policies := auth.NewPolicies(map[string]auth.Policy{
		"ann": {Platforms: []string{"linux/amd64", "linux/arm64"}, TTL: time.Hour},
	})
	with := func(o *Options) {
		withPasswords(o)
		o.Policies = policies
	}
	for name, test := range map[string]struct {
		user, body string
		status     int
		platforms  int
	}{
		"nothing asked":         {"ann", `{"containerImage": "a"}`, 200, 2},
		"a platform":            {"ann", `{"containerImage": "a", "containerPlatform": "arm64"}`, 200, 1},
		"another platform":      {"ann", `{"containerImage": "a", "containerPlatform": "linux/s390x"}`, 403, 0},
		"a lifetime":            {"ann", `{"containerImage": "a", "ttl": "60m"}`, 200, 2},
		"too long a lifetime":   {"ann", `{"containerImage": "a", "ttl": "61m"}`, 403, 0},
		"unlisted platform":     {"bob", `{"containerImage": "a", "containerPlatform": "linux/s390x", "ttl": "2h"}`, 200, 1},
		"everything by default": {"bob", `{"containerImage": "a"}`, 200, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f, h := newAPI(with)
			password := map[string]string{"ann": "hunter2", "bob": "hunter3"}[test.user]
			w := call(h, "POST", "/v1alpha2/container", test.body, "Authorization", basic(test.user, password))
			if w.Code != test.status {
				t.Fatalf("%d %s, want %d", w.Code, w.Body, test.status)
			}
			if test.status != 200 {
				checkError(t, w, test.status, "api.identities")
				return
			}
			if want := map[string]time.Duration{"ann": time.Hour}[test.user]; f.longest != want {
				t.Errorf("the token lives for at most %s, want %s", f.longest, want)
			}
			if got := len(f.resolved[0].Platforms); got != test.platforms {
				t.Errorf("%d platforms, want %d", got, test.platforms)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	three := func(o *Options) { o.Submits = ratelimit.New(ratelimit.Rate{Events: 3, Per: time.Hour}) }
	_, h := newAPI(three)
	const body = `{"containerImage": "a"}`
	for i := range 5 {
		w := call(h, "POST", "/v1alpha2/container", body)
		if i < 3 {
			if w.Code != 200 {
				t.Fatalf("request %d: %d %s", i, w.Code, w.Body)
			}
			continue
		}
		checkError(t, w, http.StatusTooManyRequests, "at most 3/h are allowed")
		if got := w.Header().Get("Retry-After"); got != "1200" {
			t.Errorf("Retry-After %q, want 1200", got)
		}
	}
	// The limit is per user and not per shared address.
	_, h = newAPI(three, withPasswords)
	for i := range 4 {
		ann := call(h, "POST", "/v1alpha2/container", body, "Authorization", basic("ann", "hunter2"))
		bob := call(h, "POST", "/v1alpha2/container", body, "Authorization", basic("bob", "hunter3"))
		want := map[bool]int{true: 200, false: 429}[i < 3]
		if ann.Code != want || bob.Code != want {
			t.Errorf("round %d: %d and %d, want %d", i, ann.Code, bob.Code, want)
		}
	}
}

func TestGuessing(t *testing.T) {
	_, h := newAPI(withPasswords, func(o *Options) { o.Guesses = front.NewGuesses(ratelimit.Rate{Events: 3, Per: time.Hour}) })
	const body = `{"containerImage": "a"}`
	for range 5 {
		if w := call(h, "POST", "/v1alpha2/container", body, "Authorization", basic("ann", "hunter2")); w.Code != 200 {
			t.Fatalf("a right login: %d %s", w.Code, w.Body)
		}
	}
	for i := range 5 {
		w := call(h, "POST", "/v1alpha2/container", body, "Authorization", basic("ann", "guess"))
		if want := map[bool]int{true: 401, false: 429}[i < 3]; w.Code != want {
			t.Errorf("guess %d: %d, want %d", i, w.Code, want)
		}
	}
	if w := call(h, "POST", "/v1alpha2/container", body, "Authorization", basic("ann", "hunter2")); w.Code != 200 {
		t.Errorf("a login that was right before, beside guesses: %d %s", w.Code, w.Body)
	}
	for range 3 {
		call(h, "POST", "/v1alpha2/container", body, "Authorization", basic("bob", "guess"))
	}
	w := call(h, "POST", "/v1alpha2/container", body, "Authorization", basic("bob", "hunter3"))
	checkError(t, w, http.StatusTooManyRequests, "too many wrong logins")
}
