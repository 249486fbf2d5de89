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
	"unicode/utf8"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/internal/flight"
)

// Options name the issuer, the audience and the claim that names the caller.
type Options struct {
	Issuer   string       // URL, as in the tokens' "iss"
	Audience string       // must be in the tokens' "aud"; if empty, every token is refused
	Claim    string       // the claim that names the caller; default "sub"
	Client   *http.Client // asks the issuer for its keys, following no redirect; nil means a plain one
}

const (
	maxToken = 16 << 10 // bytes
	// leeway is how long a token is accepted after its expiry, because clocks differ.
	leeway    = time.Minute
	maxName   = 256 // characters
	maxReason = 300 // bytes of the library's error
)

// algorithms are the signatures with a public key. HMAC is not among them, because
// an issuer cannot publish its key.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.PS384, jose.PS512, jose.EdDSA,
}

// Verifier is an auth.Bearer for the tokens of one issuer. Safe for concurrent use.
type Verifier struct {
	options Options
	config  *oidc.Config
	loads   flight.Calls

	mu    sync.Mutex
	state state
}

var _ auth.Bearer = (*Verifier)(nil)

// New returns a Verifier. It makes no request, because the issuer may start later
// than this server.
func New(o Options) *Verifier {
	client := http.Client{}
	if o.Client != nil {
		client = *o.Client
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	o.Client = &client
	o.Claim = cmp.Or(o.Claim, "sub")
	config := &oidc.Config{ClientID: o.Audience, Now: func() time.Time { return time.Now().Add(-leeway) }}
	for _, a := range algorithms {
		config.SupportedSigningAlgs = append(config.SupportedSigningAlgs, string(a))
	}
	return &Verifier{options: o, config: config}
}

// Identity returns the name in the claim of a valid token. Signature, issuer,
// audience and expiry are checked, the expiry with a minute of leeway. An invalid
// token is auth.ErrWrongLogin, with the reason; other errors are ctx's or mean that
// the issuer's keys are not available.
func (v *Verifier) Identity(ctx context.Context, token string) (string, error) {
	if len(token) > maxToken {
		return "", wrong("a token of more than %d bytes", maxToken)
	}
	if _, err := jose.ParseSignedCompact(token, algorithms); err != nil {
		return "", wrong("not a JSON web token with a public-key signature")
	}
	known, err := v.keys(ctx)
	if err != nil {
		return "", err
	}
	claims, signed, err := v.verify(ctx, known, token)
	if !signed { // the key may be newer than the known ones
		newer, failed := v.load(ctx)
		if failed != nil {
			return "", failed
		}
		if newer != known {
			claims, signed, err = v.verify(ctx, newer, token)
		}
	}
	switch {
	case !signed:
		return "", wrong("not signed with a key of %s", v.options.Issuer)
	case err != nil:
		return "", err
	}
	return v.name(claims)
}

// witness notes whether the signature was valid, because the library's error does
// not tell.
type witness struct {
	oidc.KeySet
	signed bool
}

func (w *witness) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	payload, err := w.KeySet.VerifySignature(ctx, token)
	w.signed = err == nil
	return payload, err
}

// verify returns the claims of a valid token, and whether one of the keys signed
// the token, valid or not.
func (v *Verifier) verify(ctx context.Context, keys oidc.KeySet, token string) (claims map[string]json.RawMessage, signed bool, err error) {
	w := &witness{KeySet: keys}
	checked, err := oidc.NewVerifier(v.options.Issuer, w, v.config).Verify(ctx, token)
	if expired, ok := errors.AsType[*oidc.TokenExpiredError](err); ok {
		return nil, w.signed, wrong("the token expired at %s", expired.Expiry.UTC().Format(time.RFC3339))
	}
	if err != nil {
		return nil, w.signed, wrong("%.*s", maxReason, err)
	}
	if err := checked.Claims(&claims); err != nil {
		return nil, true, wrong("the token's claims cannot be read")
	}
	return claims, true, nil
}

func (v *Verifier) name(claims map[string]json.RawMessage) (string, error) {
	claim := v.options.Claim
	var name string
	if err := json.Unmarshal(claims[claim], &name); err != nil || !isName(name) {
		return "", wrong("the token's claim %q is not a name", claim)
	}
	// People can write any address into their account, so an address of which the
	// issuer says nothing proves nothing. Some issuers send the boolean as a string.
	if claim == "email" && strings.Trim(string(claims["email_verified"]), `"`) != "true" {
		return "", wrong("the issuer has not verified the token's email (email_verified is not true)")
	}
	return name, nil
}

func wrong(format string, args ...any) error {
	return fmt.Errorf("%w: %s", auth.ErrWrongLogin, fmt.Sprintf(format, args...))
}

// isName reports whether the name can be an identity: one printable line, because
// it is logged, counted and compared, and not reserved for the server itself.
// JSON's decoder turns bytes that are not UTF-8 into RuneError.
func isName(name string) bool {
	return name != "" && !auth.IsReserved(name) && utf8.RuneCountInString(name) <= maxName &&
		!strings.ContainsFunc(name, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) })
}
