package front

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/waveproxy/waveproxy/auth"
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
		err = guesses.Try(r.Context(), user, password, func() error { return passwords.Check(r.Context(), user, password) })
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
