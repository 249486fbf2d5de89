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
)

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
