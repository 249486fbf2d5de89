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

// Errors of logins. What wraps them may say more, for the log: who guesses would
// learn from it. It never has the password or the token.
var (
	ErrNoLogin    = errors.New("no login was sent")
	ErrWrongLogin = errors.New("wrong user, password or token")
)

// Caller is who asks for images, and what they may do.
type Caller struct {
	Identity string // "" where nobody logs in
	Policy   Policy
}

// Bearer knows the tokens that callers log in with. It is safe for concurrent
// use.
type Bearer interface {
	// Identity returns whose token it is. ErrWrongLogin means nobody's; any other
	// error that it could not be found out.
	Identity(ctx context.Context, token string) (string, error)
}

// minStatic is the shortest token that cannot be guessed at a server's speed.
const minStatic = 16

// StaticTokens is a Bearer of tokens by identity, at least 16 characters each.
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

// staticTokens are found by their hash, so how long it takes says nothing about
// how much of a token is right. The hash of a weak token is enough to guess it.
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

// FirstBearer asks one after the other until one knows the token.
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
