package cloud

import (
	"context"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"github.com/waveproxy/waveproxy/auth"
)

const (
	// Timeout is for one login, with all requests and retries that it takes.
	Timeout = 30 * time.Second

	// waitTimeout is for who waits for a login. It is a little longer than the
	// login's own, which ends with a message that says more.
	waitTimeout = Timeout + time.Second

	// pause is between failed logins for the same key, so that a burst of pulls
	// does not become one of logins. The error is repeated meanwhile.
	pause = 5 * time.Second

	// margin is what a credential has left when it is last handed out.
	margin = time.Minute

	keptCredentials = 256
)

// Login asks a cloud for a credential and says when that expires; the zero time
// if it must not be kept. It need not heed ctx, which ends after Timeout, but
// has to end by itself soon after.
type Login func(ctx context.Context) (c auth.Credential, expires time.Time, err error)

// Cache keeps credentials until a minute before they expire. When a quarter of
// its time is left a credential is renewed, while it is still handed out; if
// that fails it stays in use. Safe for concurrent use.
type Cache struct {
	now     func() time.Time
	entries *lru.Cache[string, entry] // the plain LRU: lru/expirable keeps a goroutine for ever
	flights singleflight.Group
}

// entry is the last credential, if there was one, and how the last login ended.
type entry struct {
	credential auth.Credential
	expires    time.Time // the last moment to hand the credential out
	next       time.Time // of the next login; the answer is known until then
	err        error     // of the last login
}

// answer is what to return without a login, if that is known.
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
// Callers with the same key share one login, which goes on when they leave.
// Errors are ctx's, or the login's, which is repeated for a few seconds.
func (c *Cache) Get(ctx context.Context, key string, login Login) (auth.Credential, error) {
	e, _ := c.entries.Get(key)
	now := c.now()
	credential, known, err := e.answer(now)
	if known && now.Before(e.next) {
		return credential, err
	}
	detached := context.WithoutCancel(ctx)
	done := c.flights.DoChan(key, func() (any, error) { return c.renew(detached, key, login) })
	if known {
		return credential, err
	}
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	select {
	case <-ctx.Done():
		return auth.Credential{}, fmt.Errorf("wait for a credential: %w", ctx.Err())
	case res := <-done:
		return res.Val.(auth.Credential), res.Err
	}
}

func (c *Cache) renew(ctx context.Context, key string, login Login) (auth.Credential, error) {
	e, _ := c.entries.Get(key)
	now := c.now()
	if credential, known, err := e.answer(now); known && now.Before(e.next) {
		return credential, err // someone else's login ended in between
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
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
