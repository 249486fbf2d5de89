package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

func TestConcurrentCallsLogInOnce(t *testing.T) {
	b := &bearer{}
	s := b.start(t)
	c, _ := newClient(t, listed(s))
	var wg sync.WaitGroup
	for range 100 {
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
	for range 100 {
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
	const t1, plain, token, t2 = "GET " + manifestPath + " Bearer t1", "GET " + manifestPath, "GET /token", "GET " + manifestPath + " Bearer t2"
	for name, test := range map[string]struct {
		bearer *bearer
		want   []string
	}{
		"401 with a challenge":       {&bearer{}, []string{t1, token, t2}},
		"401 that has another scope": {&bearer{scope: "repository:user/image:pull"}, []string{t1, token, t2}},
		// The challenge costs a request.
		"401 without a challenge": {&bearer{bare: 401}, []string{t1, plain, token, t2}},
		"400":                     {&bearer{bare: 400}, []string{t1, plain, token, t2}},
		"403":                     {&bearer{bare: 403}, []string{t1, plain, token, t2}},
	} {
		t.Run(name, func(t *testing.T) {
			b := test.bearer
			s := b.start(t)
			c, _ := newClient(t, listed(s))
			wantManifest(t, c, image)
			s.TakeLines()
			b.revoked = true
			wantManifest(t, c, image)
			s.WantRequests(t, test.want...)
		})
	}
}

func TestForgetLogins(t *testing.T) {
	b := &bearer{}
	s := b.start(t)
	c, _ := newClient(t, listed(s))
	wantManifest(t, c, image)
	wantManifest(t, c, image)
	if b.issued != 1 {
		t.Errorf("%d token requests, want 1", b.issued)
	}
	c.ForgetLogins()
	wantManifest(t, c, image)
	if b.issued != 2 {
		t.Errorf("%d token requests when logins are forgotten, want 2", b.issued)
	}
}

// A token that is refused although it is new is not replaced in the same call.
func TestFreshTokenIsRefusedOnce(t *testing.T) {
	for _, bare := range []int{0, 400, 401, 403} {
		t.Run(fmt.Sprint(bare), func(t *testing.T) {
			b := &bearer{bare: bare}
			s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
				b.serve(w, r)
				b.revoked = true
			})
			b.realm = s.URL + "/token"
			c, _ := newClient(t, listed(s))
			for call := range 3 {
				_ = manifestError(t, c, image)
				if b.issued != call+1 {
					t.Errorf("%d logins in %d calls", b.issued, call+1)
				}
			}
		})
	}
}

// Tokens that live for seconds, announced or not, make pulls slower but do not
// fail them.
func TestShortLivedTokens(t *testing.T) {
	for _, seconds := range []int{-1, 0, 1, 5} {
		t.Run(fmt.Sprint(seconds), func(t *testing.T) {
			b := &bearer{answer: fmt.Sprintf(`{"token":"%%[1]s","expires_in":%d}`, seconds)}
			s := b.start(t)
			c, _ := newClient(t, listed(s))
			now := time.Now()
			c.tokens.now = func() time.Time { return now }
			for range 20 {
				wantManifest(t, c, image)
				now = now.Add(minTokenLife / 21)
			}
			if n := len(s.TakeLines()); n != 22 || b.issued != 1 {
				t.Errorf("%d requests with %d logins, want 22 with 1", n, b.issued)
			}
			for call := range 5 {
				b.revoked = true
				wantManifest(t, c, image)
				if n := len(s.TakeLines()); n != 3 || b.issued != call+2 {
					t.Errorf("%d requests, %d logins so far", n, b.issued)
				}
			}
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
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := c.Repository(image).Manifest(ctx, "1.0")
	wantError(t, err, Timeout)
	close(gate)
	wantManifest(t, c, image)
	if b.issued != 1 {
		t.Errorf("%d token requests, want 1", b.issued)
	}
}

// keychainFunc is a function as a keychain.
type keychainFunc func(auth.Target) (auth.Credential, error)

func (f keychainFunc) Credential(_ context.Context, t auth.Target) (auth.Credential, error) {
	return f(t)
}

func TestTargetsShareNoToken(t *testing.T) {
	var issued atomic.Int32
	var s *upstreamtest.Registry
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
			s.TakeLines()
			wantManifest(t, c, target)
			got := s.TakeLines()
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

// Two tenants have the same user name at one registry. The login service answers
// only when both ask, so neither can have used the other's login.
func TestTenantsWithTheSameUserShareNothing(t *testing.T) {
	var both sync.WaitGroup
	both.Add(2)
	var s *upstreamtest.Registry
	s = newServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, password, _ := r.BasicAuth()
		switch given := r.Header.Get("Authorization"); {
		case r.URL.Path == "/token":
			both.Done()
			both.Wait()
			fmt.Fprintf(w, `{"token":"for-%s","expires_in":300}`, password)
		case given == "":
			w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="s"`, s.URL))
			w.WriteHeader(http.StatusUnauthorized)
		default:
			fmt.Fprint(w, given)
		}
	})
	o := listed(s)
	o.Keychain = keychainFunc(func(t auth.Target) (auth.Credential, error) {
		return auth.Credential{Username: "ci", Password: "password-of-" + t.Identity}, nil
	})
	c, _ := newClient(t, o)
	for range 2 { // with the second round from the cache
		var wg sync.WaitGroup
		for _, identity := range []string{"anna", "ben"} {
			wg.Go(func() {
				target := image
				target.Identity = identity
				o, err := c.Repository(target).Manifest(t.Context(), "1.0")
				if want := "Bearer for-password-of-" + identity; err != nil || string(o.Data) != want {
					t.Errorf("%s used %q, want %q: %v", identity, o.Data, want, err)
				}
			})
		}
		wg.Wait()
	}
	if n := len(s.TakeLines()); n != 8 {
		t.Errorf("%d requests, want 8: two logins with three each, and two", n)
	}
}

func TestCheckLoginIsNotKept(t *testing.T) {
	b := &bearer{password: "hunter2"}
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			b.registry(w, r)
		} else {
			b.login(w, r)
		}
	})
	b.realm = s.URL + "/token"
	c, _ := newClient(t, listed(s))
	for range 2 {
		if ok, err := c.CheckLogin(t.Context(), "example.org", "ci", "hunter2"); !ok || err != nil {
			t.Errorf("%v, %v", ok, err)
		}
	}
	if c.tokens.logins.Len() != 0 || b.issued != 2 {
		t.Errorf("%d logins kept of %d", c.tokens.logins.Len(), b.issued)
	}
}
