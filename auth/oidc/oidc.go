// Package oidc checks the JSON web tokens of an OpenID Connect issuer, with
// coreos/go-oidc.
//
// It must never accept a token that is not for this server (audience), nor put
// one into an error.
package oidc

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/waveproxy/waveproxy/auth"
)

// Options say whose tokens are good, and what in them names the caller.
type Options struct {
	Issuer   string       // URL, as in the tokens' "iss"
	Audience string       // must be in the tokens' "aud"
	Claim    string       // that names the caller; default "sub"
	Client   *http.Client // that asks the issuer for its keys; nil: a plain one
}

const (
	// discoveryTimeout bounds each request to the issuer.
	discoveryTimeout = 10 * time.Second
	// retryAfter is how long an issuer that could not be asked is left alone.
	retryAfter = 5 * time.Second
	maxAnswer  = 1 << 20 // bytes of the issuer's
	maxName    = 256
)

// algorithms are those whose keys the issuer can publish. HMAC's it cannot.
var algorithms = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA,
}

// Verifier is an auth.Bearer. It asks the issuer for its keys when it sees the
// first token, and again for tokens with a new key. It is safe for concurrent
// use.
type Verifier struct {
	Options

	mu       sync.Mutex
	verifier *oidc.IDTokenVerifier // nil until the issuer was asked
	failed   error
	failedAt time.Time
}

var _ auth.Bearer = (*Verifier)(nil)

// New asks nobody yet: the issuer may start later than we do.
func New(o Options) *Verifier {
	client := http.Client{}
	if o.Client != nil {
		client = *o.Client
	}
	client.Timeout = discoveryTimeout
	client.Transport = bounded{cmp.Or(client.Transport, http.DefaultTransport)}
	o.Client = &client
	o.Claim = cmp.Or(o.Claim, "sub")
	return &Verifier{Options: o}
}

// Identity returns what the claim of a good token says. Signature, issuer,
// audience and expiry are checked. A token that is not good is
// auth.ErrWrongLogin; other errors mean that the issuer could not be asked.
func (v *Verifier) Identity(ctx context.Context, token string) (string, error) {
	if strings.Count(token, ".") != 2 {
		return "", auth.ErrWrongLogin // not a JSON web token
	}
	verifier, err := v.discover(ctx)
	if err != nil {
		return "", err
	}
	// Without this the library would ask with the default client.
	checked, err := verifier.Verify(oidc.ClientContext(ctx, v.Client), token)
	if err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		// The library has no type for it, and a new key could not be looked up.
		if strings.Contains(err.Error(), "fetching keys") {
			return "", fmt.Errorf("ask the issuer %s for its keys: %w", v.Issuer, errUnavailable)
		}
		return "", auth.ErrWrongLogin
	}
	var claims map[string]json.RawMessage
	if err := checked.Claims(&claims); err != nil {
		return "", auth.ErrWrongLogin
	}
	var name string
	if err := json.Unmarshal(claims[v.Claim], &name); err != nil || !isName(name) {
		return "", fmt.Errorf("%w: the token's claim %q is not a name", auth.ErrWrongLogin, v.Claim)
	}
	return name, nil
}

var errUnavailable = errors.New("no usable answer")

// isName keeps what is logged, counted and compared to one printable line, and
// apart from the names that the server itself gives.
func isName(name string) bool {
	return name != "" && name != "*" && len(name) <= maxName &&
		!strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) &&
		!strings.HasPrefix(name, "platform:") && !strings.HasPrefix(name, "recipe:")
}

// discover asks the issuer where its keys are, once it is needed.
func (v *Verifier) discover(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.verifier != nil {
		return v.verifier, nil
	}
	if time.Since(v.failedAt) < retryAfter {
		return nil, v.failed
	}
	// The provider keeps the context for asking for new keys later.
	shared := oidc.ClientContext(context.WithoutCancel(ctx), v.Client)
	provider, err := oidc.NewProvider(shared, v.Issuer)
	if err != nil {
		// The library quotes the answer, which may be anything.
		v.failed, v.failedAt = fmt.Errorf("ask the issuer %s: %w", v.Issuer, errUnavailable), time.Now()
		return nil, v.failed
	}
	v.verifier = provider.Verifier(&oidc.Config{ClientID: v.Audience, SupportedSigningAlgs: algorithms})
	return v.verifier, nil
}

// bounded cuts answers that are too long.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(req)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
	}
	return resp, err
}
