package upstream

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/golang-lru/v2/expirable"
	"golang.org/x/sync/singleflight"
	"oras.land/oras-go/v2/errdef"
	orasauth "oras.land/oras-go/v2/registry/remote/auth"

	"github.com/waveproxy/waveproxy/auth"
)

const (
	// tokenTTL is below the 300 s of Docker Hub's tokens. A registry whose tokens
	// live shorter answers 401, which costs one more login.
	tokenTTL     = 240 * time.Second
	tokenTimeout = 30 * time.Second
	cachedTokens = 4096
)

// tokenCache keeps what was last sent to log in, and lets concurrent logins
// share one request. It implements oras' Cache, for calls only.
//
// The scope that oras gives is not part of the key: the target has the identity
// and the repository, and the one action is pull. Registries that challenge
// with a scope of their own (GHCR's placeholder) would miss the cache each time.
type tokenCache struct {
	logins  *expirable.LRU[loginKey, login]
	flights singleflight.Group
}

type loginKey struct {
	target auth.Target
	host   string
}

type login struct {
	scheme     orasauth.Scheme
	token      string // for Basic: the encoded user and password
	credential string // Source; empty for anonymous logins
}

var _ orasauth.Cache = (*tokenCache)(nil)

func newTokenCache() *tokenCache {
	return &tokenCache{logins: expirable.NewLRU[loginKey, login](cachedTokens, nil, tokenTTL)}
}

func (t *tokenCache) GetScheme(ctx context.Context, host string) (orasauth.Scheme, error) {
	l, ok := t.logins.Get(loginKey{callOf(ctx).target, host})
	if !ok {
		return orasauth.SchemeUnknown, errdef.ErrNotFound
	}
	return l.scheme, nil
}

func (t *tokenCache) GetToken(ctx context.Context, host string, scheme orasauth.Scheme, _ string) (string, error) {
	c := callOf(ctx)
	l, ok := t.logins.Get(loginKey{c.target, host})
	if !ok || l.scheme != scheme {
		return "", errdef.ErrNotFound
	}
	c.token, c.credential = l.token, l.credential
	return l.token, nil
}

type credentialKey struct{}

// Set logs in, unless someone else did since the call's token was refused. The
// login goes on when its first caller leaves, for the others.
func (t *tokenCache) Set(ctx context.Context, host string, scheme orasauth.Scheme, _ string, fetch func(context.Context) (string, error)) (string, error) {
	c := callOf(ctx)
	key, refused := loginKey{c.target, host}, c.token
	shared := context.WithoutCancel(ctx)
	done := t.flights.DoChan(fmt.Sprintf("%q %d %q", key, scheme, refused), func() (any, error) {
		if l, ok := t.logins.Get(key); ok && l.scheme == scheme && l.token != refused {
			return l, nil
		}
		ctx, cancel := context.WithTimeout(shared, tokenTimeout)
		defer cancel()
		l := login{scheme: scheme}
		var err error
		l.token, err = fetch(context.WithValue(ctx, credentialKey{}, &l.credential))
		if err == nil {
			t.logins.Add(key, l)
		}
		return l, err
	})
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case res := <-done:
		l := res.Val.(login)
		c.token, c.credential = l.token, l.credential
		return l.token, res.Err
	}
}

// drop forgets the token that the call used.
func (t *tokenCache) drop(c *call, host string) {
	key := loginKey{c.target, host}
	if l, ok := t.logins.Peek(key); ok && l.token == c.token {
		t.logins.Remove(key)
	}
	c.token = ""
}

// keychainError keeps our own trouble apart from the registry's.
type keychainError struct{ err error }

func (e *keychainError) Error() string { return "find credential: " + e.err.Error() }
func (e *keychainError) Unwrap() error { return e.err }

// credential is oras' CredentialFunc. It runs inside of tokenCache.Set.
func (c *Client) credential(ctx context.Context, _ string) (orasauth.Credential, error) {
	found, given := ctx.Value(givenKey{}).(auth.Credential)
	if !given && c.keychain != nil {
		var err error
		if found, err = c.keychain.Credential(ctx, callOf(ctx).target); err != nil {
			return orasauth.EmptyCredential, &keychainError{err}
		}
	}
	if source, ok := ctx.Value(credentialKey{}).(*string); ok && !found.IsZero() {
		*source = cmp.Or(found.Source, "this server")
	}
	return orasauth.Credential{
		Username: found.Username, Password: found.Password,
		RefreshToken: found.IdentityToken, AccessToken: found.RegistryToken,
	}, nil
}
