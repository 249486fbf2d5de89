package cloud

import (
	"context"
	"errors"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/internal/flight"
)

const (
	// Timeout bounds one login, with all its requests and retries.
	Timeout = 30 * time.Second

	// waitTimeout bounds the wait of a caller for a login. It is a little longer
	// than Timeout, because the error of the login itself says more.
	waitTimeout = Timeout + time.Second

	// pause is the time from a failed login to the next one for the same key, so
	// that a burst of pulls does not become a burst of logins. Meanwhile the error
	// is repeated.
	pause = 5 * time.Second

	// margin is the shortest time that a credential is good for when it is handed
	// out.
	margin = time.Minute

	keptCredentials = 256
)

// Login returns a credential from a cloud and its expiry; the zero time means that
// the credential must not be kept. ctx ends after Timeout. A Login that ignores ctx
// must end by itself soon after.
type Login func(ctx context.Context) (c auth.Credential, expires time.Time, err error)

// Cache keeps credentials until a minute before they expire. When a quarter of its
// time is left, a credential is renewed in the background; if that fails, it stays
// in use. Safe for concurrent use.
type Cache struct {
	now     func() time.Time
	entries *lru.Cache[string, entry] // the plain LRU: lru/expirable keeps a goroutine for ever
	flights flight.Calls
}

// entry is the last credential, if there was one, and how the last login ended.
type entry struct {
	credential auth.Credential
	expires    time.Time // from then on the credential is not handed out
	next       time.Time // no login begins before; until then the answer is known
	err        error     // of the last login
}

// answer returns the credential or the error of the entry; known is false if only a
// login can tell.
func (e entry) answer(now time.Time) (c auth.Credential, known bool, err error) {
	switch {
	case now.Before(e.expires):
		return e.credential, true, nil
	case now.Before(e.next):
		return auth.Credential{}, true, e.err
	}
	return auth.Credential{}, false, nil
}

// NewCache returns an empty cache. A nil clock is time.Now.
func NewCache(now func() time.Time) *Cache {
	if now == nil {
		now = time.Now
	}
	entries, err := lru.New[string, entry](keptCredentials)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &Cache{now: now, entries: entries}
}

// Get returns the credential for the key, and logs in when there is none.
// Callers with the same key share one login, which continues when they leave.
// Errors are ctx's, or the login's, which is repeated for a few seconds.
func (c *Cache) Get(ctx context.Context, key string, login Login) (auth.Credential, error) {
	e, _ := c.entries.Get(key)
	now := c.now()
	credential, known, err := e.answer(now)
	if known && now.Before(e.next) {
		return credential, err
	}
	renew := func(ctx context.Context) (auth.Credential, error) { return c.renew(ctx, key, login) }
	if known {
		flight.Start(ctx, &c.flights, key, Timeout, renew)
		return credential, err
	}
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	credential, err = flight.Do(ctx, &c.flights, key, Timeout, renew)
	if ended := ctx.Err(); ended != nil && errors.Is(err, ended) {
		return auth.Credential{}, fmt.Errorf("wait for a credential: %w", err)
	}
	return credential, err
}

func (c *Cache) renew(ctx context.Context, key string, login Login) (auth.Credential, error) {
	e, _ := c.entries.Get(key)
	now := c.now()
	if credential, known, err := e.answer(now); known && now.Before(e.next) {
		return credential, err // another login ended in between
	}
	credential, expires, err := login(ctx)
	now = c.now()
	if err != nil {
		e.err, e.next = err, now.Add(pause)
		c.entries.Add(key, e)
		credential, _, err = e.answer(now)
		return credential, err
	}
	e = entry{credential: credential, expires: expires.Add(-margin)}
	e.next = now.Add(expires.Sub(now) / 4 * 3)
	if e.next.After(e.expires) {
		e.next = e.expires
	}
	c.entries.Add(key, e)
	return credential, nil
}
