package upstream

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"

	"github.com/waveproxy/waveproxy/auth"
)

// Host is the base URL of the repository's registry, without a path.
func (r *Repository) Host() string { return r.base.String() }

// givenKey is for the credential of a CheckLogin, which comes before the
// keychain's.
type givenKey struct{}

// CheckLogin asks a registry, by its host as in image names, whether it accepts
// a user's password. It is false only when the registry, or the login service
// it names, refused them; that it could not be asked is an *Error. A registry
// that wants no login accepts everything.
func (c *Client) CheckLogin(ctx context.Context, host, username, password string) (bool, error) {
	// An identity of its own keeps the login apart from every other.
	r := c.Repository(auth.Target{Identity: "login check " + rand.Text(), Registry: host})
	cl := r.call("log in to", "")
	ctx, cancel := context.WithTimeout(ctx, objectTimeout)
	defer cancel()
	ctx = context.WithValue(ctx, givenKey{}, auth.Credential{Username: username, Password: password, Source: "the request"})
	u := *r.base
	u.Path = "/v2/"
	req := (&http.Request{Method: http.MethodGet, URL: &u, Header: http.Header{}}).WithContext(ctx)
	resp, err := c.do(req, cl, c.loggedIn)
	if e, ok := errors.AsType[*Error](err); ok && (e.Kind == Rejected || e.Kind == Unauthorized) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	discard(resp.Body)
	switch resp.StatusCode {
	case http.StatusOK:
		return true, nil
	case http.StatusUnauthorized, http.StatusForbidden:
		return false, nil
	}
	return false, cl.refused(resp)
}
