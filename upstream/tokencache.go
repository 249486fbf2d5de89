package upstream

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"oras.land/oras-go/v2/errdef"
	orasauth "oras.land/oras-go/v2/registry/remote/auth"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/internal/flight"
	"github.com/waveproxy/waveproxy/internal/sizedlru"
)

const (
	// loginTTL is for logins without a token server's answer: Basic, and tokens
	// that the keychain has. It is how long a changed credential may go unnoticed.
	loginTTL     = 240 * time.Second
	tokenTimeout = 30 * time.Second
	cachedTokens = 4096
	// tokensCost bounds the tokens in memory, in bytes. Ordinary ones have 3 KiB; one
	// of 128 KiB is kept as well.
	tokensCost = 8 << 20
	loginCost  = 512 // of a login, beside its texts
)

// tokenCache keeps what was last sent to log in, and lets concurrent logins
// share one request. It implements oras' Cache, for calls only.
type tokenCache struct {
	logins  *sizedlru.Cache[loginKey, login]
	flights flight.Calls
	now     func() time.Time
}

// loginKey has all that a login is good for. The keychain decides by the target
// alone, so one key never has two credentials, and the host is where the login
// is sent to.
//
// The scope that oras gives is not part of it: the target has the repository,
// and the one action is pull. Registries that challenge with a scope of their
// own (GHCR's placeholder) would miss the cache each time.
//
// Realm and service are not part of the key either. The host names them only when it
// refuses a request, which is too late to choose a cached login. If they change, the
// host refuses the old login and the call logs in at the new realm.
type loginKey struct {
	target auth.Target
	host   string
}

type login struct {
	scheme     orasauth.Scheme
	token      string // for Basic: the encoded user and password
	credential string // for messages; empty for anonymous logins
	until      time.Time
}

// pending is what becomes known in the course of a login. It travels in the
// context of the login's requests.
type pending struct {
	credential string
	life       time.Duration
}

type pendingKey struct{}

var _ orasauth.Cache = (*tokenCache)(nil)

func newTokenCache() *tokenCache {
	return &tokenCache{logins: sizedlru.New[loginKey, login](tokensCost, cachedTokens, maxTokenLife), now: time.Now}
}

func (t *tokenCache) get(key loginKey) (login, bool) {
	l, ok := t.logins.Get(key)
	return l, ok && t.now().Before(l.until)
}

func (t *tokenCache) GetScheme(ctx context.Context, host string) (orasauth.Scheme, error) {
	l, ok := t.get(loginKey{callOf(ctx).target, host})
	if !ok {
		return orasauth.SchemeUnknown, errdef.ErrNotFound
	}
	return l.scheme, nil
}

// GetToken finds no token that the call has sent already: oras asks again when
// the challenge names another scope, after that token was refused.
func (t *tokenCache) GetToken(ctx context.Context, host string, scheme orasauth.Scheme, _ string) (string, error) {
	c := callOf(ctx)
	l, ok := t.get(loginKey{c.target, host})
	if !ok || l.scheme != scheme || l.token == c.token {
		return "", errdef.ErrNotFound
	}
	c.token, c.credential, c.reused, c.bearer = l.token, l.credential, true, scheme == orasauth.SchemeBearer
	return l.token, nil
}

// Set logs in, unless another call did since this call's token was refused. The
// login goes on when its first caller leaves, because others may wait for it.
func (t *tokenCache) Set(ctx context.Context, host string, scheme orasauth.Scheme, _ string, fetch func(context.Context) (string, error)) (string, error) {
	c := callOf(ctx)
	key, refused := loginKey{c.target, host}, c.token
	l, err := flight.Do(ctx, &t.flights, fmt.Sprintf("%q %d %q", key, scheme, refused), tokenTimeout, func(ctx context.Context) (*login, error) {
		if l, ok := t.get(key); ok && l.scheme == scheme && l.token != refused {
			return &l, nil
		}
		p := pending{life: loginTTL}
		token, err := fetch(context.WithValue(ctx, pendingKey{}, &p))
		l := login{scheme, token, p.credential, t.now().Add(p.life)}
		if _, given := ctx.Value(givenKey{}).(auth.Credential); err == nil && !given {
			t.logins.Add(key, l, loginCost+int64(len(l.token)+len(l.credential)+len(key.target.Identity)+len(key.target.Repository))) // the login of a CheckLogin serves no other call
		}
		return &l, err
	})
	if l == nil {
		return "", err // the call's context ended
	}
	c.token, c.credential, c.reused, c.bearer = l.token, l.credential, false, scheme == orasauth.SchemeBearer && err == nil
	return l.token, err
}

// drop forgets the token that the call used.
func (t *tokenCache) drop(c *call, host string) {
	key := loginKey{c.target, host}
	if l, ok := t.logins.Peek(key); ok && l.token == c.token {
		t.logins.Remove(key)
	}
	c.token, c.reused, c.bearer = "", false, false
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
	if p, ok := ctx.Value(pendingKey{}).(*pending); ok && !found.IsZero() {
		found.Source = cmp.Or(found.Source, "this server")
		p.credential = found.String()
	}
	return orasauth.Credential{
		Username: found.Username, Password: found.Password,
		RefreshToken: found.IdentityToken, AccessToken: found.RegistryToken,
	}, nil
}
