package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Errors of logins. An error that wraps them may say more. That text is for the log
// only, because a client that guesses would learn from it. It never contains the
// password or the token.
var (
	ErrNoLogin    = errors.New("no login was sent")
	ErrWrongLogin = errors.New("wrong user, password or token")
	ErrBusy       = errors.New("too many logins wait to be checked")
)

// Caller is a client that asks for images: its identity and what it may do.
type Caller struct {
	Identity string // "" without login
	Policy   Policy
}

// Bearer finds the identity of the token that a caller logs in with. Safe for
// concurrent use.
type Bearer interface {
	// Identity returns the identity that the token belongs to. ErrWrongLogin means
	// that it belongs to none; any other error means that the check itself failed.
	Identity(ctx context.Context, token string) (string, error)
}

// minStatic is the shortest token that cannot be guessed at a server's speed.
const minStatic = 16

// StaticTokens returns a Bearer of tokens by identity. A token of less than 16
// characters, a token of two identities and an empty identity are errors, which do
// not show the token.
func StaticTokens(byIdentity map[string]string) (Bearer, error) {
	byHash := map[[sha256.Size]byte]string{}
	for _, identity := range slices.Sorted(maps.Keys(byIdentity)) {
		token := byIdentity[identity]
		sum := sha256.Sum256([]byte(token))
		switch other, taken := byHash[sum]; {
		case identity == "":
			return nil, errors.New("a token needs the name of its identity")
		case len(token) < minStatic:
			return nil, fmt.Errorf("the token of %q has %d characters, want at least %d", identity, len(token), minStatic)
		case taken:
			return nil, fmt.Errorf("%q and %q have the same token", other, identity)
		}
		byHash[sum] = identity
	}
	return staticTokens{hide(byHash)}, nil
}

// staticTokens compares hashes, so that the time it takes does not depend on how
// much of a token is right. The hashes are hidden as well, because the hash of a
// weak token is enough to guess it.
type staticTokens struct {
	byHash hidden[map[[sha256.Size]byte]string]
}

func (s staticTokens) Identity(_ context.Context, token string) (string, error) {
	sum := sha256.Sum256([]byte(token))
	for known, identity := range s.byHash() {
		if subtle.ConstantTimeCompare(known[:], sum[:]) == 1 {
			return identity, nil
		}
	}
	return "", ErrWrongLogin
}

// FirstBearer returns a Bearer that asks the bearers in order until one knows the
// token. An error other than ErrWrongLogin stops the search.
func FirstBearer(bearers ...Bearer) Bearer { return firstBearer(bearers) }

type firstBearer []Bearer

func (f firstBearer) Identity(ctx context.Context, token string) (string, error) {
	err := ErrWrongLogin
	for _, b := range f {
		var identity string
		if identity, err = b.Identity(ctx, token); err == nil || !errors.Is(err, ErrWrongLogin) {
			return identity, err
		}
	}
	return "", err
}

// Apart returns a Bearer that refuses, with a *Denied, callers to whom b gives the name
// of another's: one that taken reports. Names that people choose for themselves at
// an issuer are no proof of being a token's holder or a user of this server.
func Apart(b Bearer, taken func(identity string) bool) Bearer { return apart{b, taken} }

type apart struct {
	bearer Bearer
	taken  func(string) bool
}

func (a apart) Identity(ctx context.Context, token string) (string, error) {
	identity, err := a.bearer.Identity(ctx, token)
	if err == nil && (IsReserved(identity) || a.taken(identity)) {
		return "", deny("your token's issuer calls you %q, which is the name of a token or user that this server's administrator made: you need another name there (api.oidc.claim)", identity)
	}
	return identity, err
}
