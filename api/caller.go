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

// received is a request that makes the server work, once its sender is known and
// its body decoded.
type received struct {
	caller  auth.Caller
	data    []byte // the body as it came; dropBody lets it go
	body    *body
	decoded func()
}

// dropBody gives back the memory of the body as it came.
func (r *received) dropBody() {
	r.data, r.body.data = nil, nil
	r.body.release()
}

// release gives back all memory that the request held. The decoded request must not
// be used any more.
func (r *received) release() {
	r.dropBody()
	r.decoded()
}

// carrier is a request whose body may have its sender's token of Seqera Platform.
type carrier interface{ platformToken() string }

// receive identifies the caller, counts the request, and reads and decodes its
// body into v. With login, at most the body's window is read before the login was
// right. Unless there is an error, the caller must call release.
func (s server) receive(w http.ResponseWriter, r *http.Request, v any) (in received, err error) {
	if err := wantJSON(r); err != nil {
		return in, err
	}
	if err := s.checkHost(r); err != nil {
		return in, err
	}
	in = received{body: newBody(w, r, s.MaxBody), decoded: func() {}}
	defer func() {
		if err != nil {
			in.release()
		}
	}()
	sender, carries := v.(carrier)
	identity, err := s.identify(w, r, in.body, carries)
	if err != nil {
		return in, err
	}
	client := cmp.Or(identity, front.ClientOf(r.Context()))
	if wait := s.Submits.Take(client); wait > 0 {
		return in, front.Limited(wait, "too many requests by %s: at most %s are allowed", client, s.Submits.Rate())
	}
	if err := in.body.read(s.MaxBody); err != nil {
		return in, err
	}
	in.data = in.body.data
	if in.decoded, err = s.decode(r.Context(), in.data, v); err != nil {
		return in, err
	}
	if s.open() {
		// Nextflow sends its token twice; the one in the body counts, as for Wave.
		token := bearerToken(r)
		if carries {
			token = cmp.Or(sender.platformToken(), token)
		}
		if len(token) > maxToken {
			return in, front.Refuse(http.StatusBadRequest, front.Unsupported, "towerAccessToken has %d bytes, and at most %d are taken", len(token), maxToken)
		}
		if token != "" {
			identity = auth.PlatformIdentity(token)
		}
	}
	in.caller = auth.Caller{Identity: identity, Policy: s.Policies.Of(identity)}
	return in, nil
}

// open reports whether the API takes requests without a login.
func (s server) open() bool { return s.Passwords == nil && s.Bearer == nil }

// identify returns the user or the holder of the token that sent the request, and ""
// without login. The login in the headers counts. Without one, a request that may
// carry a token in its body is read as far as the window, because the wave command
// line sends its token nowhere else.
func (s server) identify(w http.ResponseWriter, r *http.Request, b *body, carries bool) (string, error) {
	switch token := bearerToken(r); {
	case s.Passwords != nil:
		return front.BasicLogin(w, r, s.Passwords, s.Guesses)
	case s.Bearer == nil:
		return "", nil
	case token != "" || !carries:
		return s.bearerLogin(w, r, token)
	}
	if err := b.read(window); err != nil {
		return "", err
	}
	identity, err := s.bearerLogin(w, r, tokenIn(b.data))
	if errors.Is(err, auth.ErrNoLogin) && !b.ended {
		w.Header().Set("Connection", "close")
		err = front.Refuse(http.StatusUnauthorized, front.Unauthorized,
			"this server wants a token, and none was sent as Authorization: Bearer or in the first %d KiB of the request", window>>10)
	}
	return identity, err
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
	if _, denied := errors.AsType[*auth.Denied](err); denied {
		refused = true
	}
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
