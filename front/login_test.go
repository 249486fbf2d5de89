package front

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/ratelimit"
)

// passwords has one user, ann, and counts the checks.
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
