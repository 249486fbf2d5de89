package api

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/front"
)

// admit refuses a request whose login or rate the headers alone show to be wrong,
// before its body is read. caller decides again, because the token of Seqera
// Platform in the body counts before the one in the headers.
func (s server) admit(w http.ResponseWriter, r *http.Request) error {
	identity := ""
	if s.Passwords != nil || s.Bearer != nil && bearerToken(r) != "" {
		var err error
		if identity, err = s.identify(w, r, ""); err != nil {
			return err
		}
	}
	client := cmp.Or(identity, front.ClientOf(r.Context()))
	if wait := s.Submits.Wait(client); wait > 0 {
		return front.Limited(wait, "too many requests by %s: at most %s are allowed", client, s.Submits.Rate())
	}
	return nil
}

// caller returns the caller of a request that makes the server work, and counts
// the request. platformToken is the token of Seqera Platform in the request's body.
func (s server) caller(w http.ResponseWriter, r *http.Request, platformToken string) (auth.Caller, error) {
	identity, err := s.identify(w, r, platformToken)
	if err != nil {
		return auth.Caller{}, err
	}
	client := front.ClientOf(r.Context())
	if s.Passwords != nil || s.Bearer != nil {
		client = identity
	}
	if wait := s.Submits.Take(client); wait > 0 {
		return auth.Caller{}, front.Limited(wait, "too many requests by %s: at most %s are allowed", client, s.Submits.Rate())
	}
	return auth.Caller{Identity: identity, Policy: s.Policies.Of(identity)}, nil
}

// identify returns the caller's name. With login it is the user or the holder of
// the token. Without login it is "", or, if the request carries a Platform token, a
// name derived from that token by a one-way hash. Nextflow sends its token twice;
// the one in the body counts, as for Wave.
func (s server) identify(w http.ResponseWriter, r *http.Request, platformToken string) (string, error) {
	token := cmp.Or(platformToken, bearerToken(r))
	switch {
	case s.Passwords != nil:
		return front.BasicLogin(w, r, s.Passwords, s.Guesses)
	case s.Bearer != nil:
		return s.bearerLogin(w, r, token)
	case token == "":
		return "", nil
	}
	return auth.PlatformIdentity(token), nil
}

func (s server) bearerLogin(w http.ResponseWriter, r *http.Request, token string) (identity string, err error) {
	if token == "" {
		err = auth.ErrNoLogin
	} else {
		err = s.Guesses.Try(r.Context(), "", token, func() (err error) {
			identity, err = s.Bearer.Identity(r.Context(), token)
			return err
		})
	}
	_, refused := errors.AsType[*front.Refusal](err)
	switch {
	case err == nil:
		front.SetUser(r.Context(), identity)
	case errors.Is(err, auth.ErrNoLogin), errors.Is(err, auth.ErrWrongLogin):
		w.Header().Set("WWW-Authenticate", `Bearer realm="waveproxy"`)
	case !refused && r.Context().Err() == nil:
		err = fmt.Errorf("%w: %w", front.Refuse(http.StatusServiceUnavailable, front.Unsupported, "the identity provider did not answer, so your token cannot be checked; try again"), err)
	}
	return identity, err
}

func bearerToken(r *http.Request) string {
	scheme, credential, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(credential)
}
