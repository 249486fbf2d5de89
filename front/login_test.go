package front

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/ratelimit"
)

// passwords has one user, ann, and counts what is checked.
type passwords struct {
	checks int
	err    error // of every check
}

func (p *passwords) Check(_ context.Context, user, password string) error {
	p.checks++
	if p.err == nil && (user != "ann" || password != "hunter2") {
		return auth.ErrWrongLogin
	}
	return p.err
}

// login sends one request through BasicLogin, in a context that has a record.
func login(p *passwords, g *Guesses, header string) (w *httptest.ResponseRecorder, user, logged string, err error) {
	var rec Record
	r := httptest.NewRequest("GET", "/v2/", nil)
	r = r.WithContext(context.WithValue(r.Context(), recordKey{}, &rec))
	if header != "" {
		r.Header.Set("Authorization", header)
	}
	w = httptest.NewRecorder()
	user, err = BasicLogin(w, r, p, g)
	return w, user, rec.User, err
}

func basic(user, password string) string {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization")
}

func TestBasicLogin(t *testing.T) {
	down := errors.New("password file unreadable")
	for name, test := range map[string]struct {
		header string
		fault  error
		user   string
		want   error
		asks   bool // for a login
		checks int
	}{
		"right":             {header: basic("ann", "hunter2"), user: "ann", checks: 1},
		"wrong password":    {header: basic("ann", "guess"), want: auth.ErrWrongLogin, asks: true, checks: 1},
		"unknown user":      {header: basic("bob", "hunter2"), want: auth.ErrWrongLogin, asks: true, checks: 1},
		"none":              {want: auth.ErrNoLogin, asks: true},
		"another scheme":    {header: "Bearer hunter2", want: auth.ErrNoLogin, asks: true},
		"broken":            {header: "Basic %%%", want: auth.ErrNoLogin, asks: true},
		"not to be checked": {header: basic("ann", "hunter2"), fault: down, want: down, checks: 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := &passwords{err: test.fault}
			w, user, logged, err := login(p, NewGuesses(ratelimit.Rate{Events: 3, Per: time.Hour}), test.header)
			if user != test.user || logged != test.user || !errors.Is(err, test.want) {
				t.Errorf("user %q, logged as %q, error %v", user, logged, err)
			}
			want := ""
			if test.asks {
				want = `Basic realm="waveproxy", charset="UTF-8"`
			}
			if got := w.Header().Get("WWW-Authenticate"); got != want {
				t.Errorf("WWW-Authenticate %q, want %q", got, want)
			}
			if p.checks != test.checks {
				t.Errorf("%d checks, want %d", p.checks, test.checks)
			}
		})
	}
}

// TestGuesses counts wrong logins only. A client that has used up its allowance is
// refused without a check, even with the right password.
func TestGuesses(t *testing.T) {
	p, g := &passwords{}, NewGuesses(ratelimit.Rate{Events: 2, Per: time.Hour})
	for range 5 {
		for _, header := range []string{"", basic("ann", "hunter2")} {
			if _, _, _, err := login(p, g, header); err != nil && !errors.Is(err, auth.ErrNoLogin) {
				t.Fatalf("%q: %v", header, err)
			}
		}
	}
	p.err = errors.New("password file unreadable")
	for range 5 {
		if _, _, _, err := login(p, g, basic("ann", "guess")); !errors.Is(err, p.err) {
			t.Fatalf("what could not be checked is counted: %v", err)
		}
	}
	p.err = nil
	for range 2 {
		if _, _, _, err := login(p, g, basic("ann", "guess")); !errors.Is(err, auth.ErrWrongLogin) {
			t.Fatal(err)
		}
	}
	p.checks = 0
	w, user, _, err := login(p, g, basic("ann", "hunter2"))
	refusal, ok := errors.AsType[*Refusal](err)
	if !ok || user != "" || p.checks != 0 || w.Header().Get("WWW-Authenticate") != "" {
		t.Fatalf("after two guesses: user %q, error %v, %d checks, %v", user, err, p.checks, w.Header())
	}
	if refusal.retryAfter <= 0 || refusal.retryAfter > time.Hour {
		t.Errorf("wait %s, want more than nothing and at most an hour", refusal.retryAfter)
	}
}

// TestGuessesPerClient: one client's guesses lock no other client out.
func TestGuessesPerClient(t *testing.T) {
	g := NewGuesses(ratelimit.Rate{Events: 1, Per: time.Hour})
	try := func(client string) error {
		ctx := context.WithValue(t.Context(), recordKey{}, &Record{client: netip.MustParseAddr(client)})
		return g.Try(ctx, func() error { return auth.ErrWrongLogin })
	}
	if err := try("192.0.2.1"); !errors.Is(err, auth.ErrWrongLogin) {
		t.Error(err)
	}
	if _, limited := errors.AsType[*Refusal](try("192.0.2.1")); !limited {
		t.Error("the second guess of a client is checked")
	}
	if err := try("192.0.2.2"); !errors.Is(err, auth.ErrWrongLogin) {
		t.Errorf("another client: %v", err)
	}
}
