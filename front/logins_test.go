package front

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/ratelimit"
)

// TestExpiredTokens: a client that goes on with expired tokens is refused for each by
// itself, and takes nothing away from the other tokens of its address.
func TestExpiredTokens(t *testing.T) {
	g := NewGuesses(ratelimit.Rate{Events: 30, Per: time.Minute})
	now := time.Now()
	g.now = func() time.Time { return now }
	for token := range 6 {
		checked := 0
		for range 200 {
			if wrong(t, g, "192.0.2.1", "", fmt.Sprint("expired", token)) {
				checked++
			}
		}
		if checked != 30 {
			t.Errorf("expired token %d was checked %d times, want 30", token, checked)
		}
	}
	if !right(t, g, "192.0.2.1", "") {
		t.Error("a fresh token is locked out by expired ones")
	}
	checked := 0
	for i := range 200 {
		if wrong(t, g, "192.0.2.1", "", fmt.Sprint("guess", i)) {
			checked++
		}
	}
	if checked != 30-6 {
		t.Errorf("%d guessed tokens were checked, want what 6 expired ones leave of 30", checked)
	}
	g = perHour(2)
	g.now = func() time.Time { return now }
	wrong(t, g, "192.0.2.1", "", "a")
	now = now.Add(time.Hour)
	wrong(t, g, "192.0.2.1", "", "a") // counts again
	if wrong(t, g, "192.0.2.1", "", "b") {
		t.Error("a wrong token is remembered for too long")
	}
	if !wrong(t, g, "192.0.2.2", "", "a") || !wrong(t, g, "192.0.2.2", "", "b") || wrong(t, g, "192.0.2.2", "", "c") {
		t.Error("what one client sent counts for another")
	}
}

// TestOneLoginOfACluster: a thousand nodes with one login, after a restart, cost one
// place and are all let in.
func TestOneLoginOfACluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := perHour(30)
		begun := time.Now()
		var unknown, passed atomic.Int64
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				err := g.Try(fromAddress(t, "192.0.2.1"), "ann", "right", func() error {
					if !g.wasRight(g.hash("ann", "right")) {
						unknown.Add(1)
						time.Sleep(time.Second / 4)
					}
					return nil
				})
				if err == nil {
					passed.Add(1)
				}
			})
		}
		synctest.Wait()
		wg.Go(func() { // a neighbour waits for one of them
			if !right(t, g, "192.0.2.1", "bob") {
				t.Error("a neighbour is refused")
			}
		})
		wg.Wait()
		if passed.Load() != 1000 || unknown.Load() != 1 || time.Since(begun) > time.Second {
			t.Errorf("%d of 1000 passed, after %d comparisons and %s", passed.Load(), unknown.Load(), time.Since(begun))
		}
	})
}

// TestManyAlike: requests with one login wait in bounded numbers, and leave room for
// other logins of the same address.
func TestManyAlike(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := perHour(30)
		ctx, leave := context.WithCancel(fromAddress(t, "192.0.2.1"))
		defer leave()
		var refused atomic.Int64
		for range maxAlike + 1 {
			go func() {
				err := g.Try(ctx, "ann", "slow", func() error { <-ctx.Done(); return ctx.Err() })
				if limited(err) {
					refused.Add(1)
				}
			}()
		}
		synctest.Wait()
		if got := refused.Load(); got != maxAlike/4 {
			t.Errorf("%d were refused at once, want a quarter of %d", got, maxAlike)
		}
		leave()
		synctest.Wait()
		if !right(t, g, "192.0.2.1", "ann") {
			t.Error("places are lost")
		}
	})
}

// TestRegistryThatIsSlow: the logins of one client at a registry that does not answer
// delay neither those at another one nor another user's.
func TestRegistryThatIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewRegistryGuesses(ratelimit.Rate{Events: 30, Per: time.Minute})
		as := func(user string) context.Context {
			return context.WithValue(t.Context(), recordKey{}, &Record{client: netip.MustParseAddr("192.0.2.1"), User: user})
		}
		var wg sync.WaitGroup
		for i := range registrySlots + 1 {
			wg.Go(func() {
				_ = g.TryAt(as("eve"), "slow.example", "u", fmt.Sprint(i), func() error { time.Sleep(30 * time.Second); return errors.New("no answer") })
			})
		}
		synctest.Wait()
		begun := time.Now()
		for user, host := range map[string]string{"ann": "slow.example", "eve": "quay.io"} {
			if err := g.TryAt(as(user), host, "u", "p", func() error { return nil }); err != nil || time.Since(begun) > 0 {
				t.Errorf("%s at %s: %v after %s", user, host, err, time.Since(begun))
			}
		}
		if err := g.TryAt(as("eve"), "slow.example", "u", "wrong", func() error { return auth.ErrWrongLogin }); !errors.Is(err, auth.ErrWrongLogin) || time.Since(begun) != 30*time.Second {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
		wg.Wait()
	})
}
