package front

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/ratelimit"
)

// Limited returns an error that tells the client to wait.
func Limited(wait time.Duration, format string, args ...any) error {
	r := Refuse(http.StatusTooManyRequests, TooManyRequests, format, args...)
	r.retryAfter = wait
	return r
}

// Busy returns an error that tells the client to come again later.
func Busy(wait time.Duration, format string, args ...any) error {
	r := Refuse(http.StatusServiceUnavailable, Unavailable, format, args...)
	r.retryAfter = wait
	return r
}

// Guesses limits wrong logins by the client's address. Each client has its own
// allowance, so a client that guesses locks no other client out.
type Guesses struct{ limiter *ratelimit.Limiter }

// NewGuesses allows each client that many wrong logins.
func NewGuesses(r ratelimit.Rate) *Guesses { return &Guesses{ratelimit.New(r)} }

// Try runs the check of a login and counts it if the login is wrong. A client
// that has been wrong too often is refused without a check.
func (g *Guesses) Try(ctx context.Context, check func() error) error {
	client := ClientOf(ctx)
	if wait := g.limiter.Wait(client); wait > 0 {
		return Limited(wait, "too many wrong logins from %s, at most %s are allowed: wait and check the password", client, g.limiter.Rate())
	}
	err := check()
	if errors.Is(err, auth.ErrWrongLogin) {
		g.limiter.Take(client)
	}
	return err
}

// Passwords tells whether a password is the user's. Errors: auth.ErrWrongLogin,
// or why it could not be checked.
type Passwords interface {
	Check(ctx context.Context, user, password string) error
}

// BasicLogin returns the user that the request's HTTP Basic login names. Without
// a good login it returns an error and asks for one in w's headers.
func BasicLogin(w http.ResponseWriter, r *http.Request, passwords Passwords, guesses *Guesses) (string, error) {
	user, password, given := r.BasicAuth()
	err := auth.ErrNoLogin
	if given {
		err = guesses.Try(r.Context(), func() error { return passwords.Check(r.Context(), user, password) })
	}
	if errors.Is(err, auth.ErrNoLogin) || errors.Is(err, auth.ErrWrongLogin) {
		w.Header().Set("WWW-Authenticate", `Basic realm="waveproxy", charset="UTF-8"`)
	}
	if err != nil {
		return "", err
	}
	SetUser(r.Context(), user)
	return user, nil
}
