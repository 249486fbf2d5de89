package front

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/ratelimit"
)

func limited(err error) bool { _, ok := errors.AsType[*Refusal](err); return ok }

func perHour(n int) *Guesses { return NewGuesses(ratelimit.Rate{Events: n, Per: time.Hour}) }

// fromAddress returns a context of a request that this client sent.
func fromAddress(t *testing.T, client string) context.Context {
	return context.WithValue(t.Context(), recordKey{}, &Record{client: netip.MustParseAddr(client)})
}

// wrong sends a wrong login and reports whether it was checked.
func wrong(t *testing.T, g *Guesses, client, user, secret string) (checked bool) {
	t.Helper()
	err := g.Try(fromAddress(t, client), user, secret, func() error { checked = true; return auth.ErrWrongLogin })
	if errors.Is(err, auth.ErrWrongLogin) != checked || limited(err) == checked {
		t.Errorf("%s from %s, checked %v: %v", user, client, checked, err)
	}
	return checked
}

// right sends a right login and reports whether it passed.
func right(t *testing.T, g *Guesses, client, user string) bool {
	t.Helper()
	err := g.Try(fromAddress(t, client), user, "right", func() error { return nil })
	if err != nil && !limited(err) {
		t.Error(err)
	}
	return err == nil
}

// TestGuesses counts wrong logins only. A client that has used up its allowance is
// refused without a check, even with a right password that it has not sent before.
func TestGuesses(t *testing.T) {
	p, g := &passwords{}, perHour(2)
	for range 5 {
		for _, header := range []string{"", basic("ann", "hunter2")} {
			if _, _, _, err := login(p, g, header); err != nil && !errors.Is(err, auth.ErrNoLogin) {
				t.Fatalf("%q: %v", header, err)
			}
		}
	}
	g = perHour(2) // that knows no right login
	p.err = errors.New("password file unreadable")
	for range 5 {
		if _, _, _, err := login(p, g, basic("ann", "guess")); !errors.Is(err, p.err) {
			t.Fatalf("what could not be checked is counted: %v", err)
		}
	}
	p.err = nil
	for range 2 {
		if _, _, _, err := login(p, g, basic("ann", "guess")); !errors.Is(err, auth.ErrWrongLogin) {
			t.Fatal(err)
		}
	}
	p.checks = 0
	w, user, _, err := login(p, g, basic("ann", "hunter2"))
	refusal, ok := errors.AsType[*Refusal](err)
	if !ok || user != "" || p.checks != 0 || w.Header().Get("WWW-Authenticate") != "" {
		t.Fatalf("after two guesses: user %q, error %v, %d checks, %v", user, err, p.checks, w.Header())
	}
	if refusal.retryAfter <= 0 || refusal.retryAfter > time.Hour {
		t.Errorf("wait %s, want more than nothing and at most an hour", refusal.retryAfter)
	}
}

// TestGuessesAtOnce: guesses that come at once are no way around the limit.
func TestGuessesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, secret := range map[string]func(int) string{
			"each another": func(i int) string { return fmt.Sprint(i) },
			"all the same": func(int) string { return "guess" },
		} {
			g := perHour(5)
			var checked, refused atomic.Int64
			var wg sync.WaitGroup
			for i := range 200 {
				wg.Go(func() {
					err := g.Try(fromAddress(t, "192.0.2.1"), "ann", secret(i), func() error {
						checked.Add(1)
						time.Sleep(time.Second)
						return auth.ErrWrongLogin
					})
					if limited(err) {
						refused.Add(1)
					}
				})
			}
			wg.Wait()
			if checked.Load() != 5 || refused.Load() != 195 {
				t.Errorf("%s: of 200 guesses at once %d were checked and %d refused, want 5 and 195", name, checked.Load(), refused.Load())
			}
		}
	})
}

// TestRightLoginsAtOnce: a cluster whose nodes come at once is not taken for a
// client that guesses.
func TestRightLoginsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := perHour(2)
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				err := g.Try(fromAddress(t, "192.0.2.1"), fmt.Sprint("user", i%20), "right", func() error { time.Sleep(time.Second); return nil })
				if err != nil {
					t.Error(err)
				}
			})
		}
		begun := time.Now()
		wg.Wait()
		if took := time.Since(begun); took > 40*time.Second {
			t.Errorf("200 requests of 20 users took %s", took)
		}
	})
}

// TestGuessesPerClient: a client's guesses lock no other client out, and no other
// user of the same client. Guesses about many users are limited, too.
func TestGuessesPerClient(t *testing.T) {
	g := perHour(2)
	for i := range 5 {
		if got, want := wrong(t, g, "192.0.2.1", "ann", fmt.Sprint(i)), i < 2; got != want {
			t.Errorf("guess %d is checked: %v", i, got)
		}
	}
	if !right(t, g, "192.0.2.2", "ann") {
		t.Error("another client is locked out")
	}
	if !right(t, g, "192.0.2.1", "bob") {
		t.Error("another user of the same address is locked out")
	}
	if right(t, perHour(2), "192.0.2.1", "bob"); !wrong(t, g, "192.0.2.1", "ann2", "x") {
		t.Error("guesses about one user count for another")
	}
	checked := 0
	for i := range 50 {
		if wrong(t, g, "192.0.2.3", fmt.Sprint("user", i), "guess") {
			checked++
		}
	}
	if checked != 2*addressFactor {
		t.Errorf("%d guesses about many users were checked, want %d", checked, 2*addressFactor)
	}
}

// TestRightLately: a login that was right lately passes whatever its neighbours at
// the same address do, until it is wrong.
func TestRightLately(t *testing.T) {
	g := perHour(2)
	now := time.Now()
	g.now = func() time.Time { return now }
	if !right(t, g, "192.0.2.1", "ann") {
		t.Fatal("a first right login is refused")
	}
	for i := range 20 {
		wrong(t, g, "192.0.2.1", "ann", fmt.Sprint(i))
		wrong(t, g, "192.0.2.1", fmt.Sprint("user", i), "guess")
	}
	now = now.Add(rememberRight - 1)
	for range 3 {
		if !right(t, g, "192.0.2.1", "ann") {
			t.Error("a login that was right lately is locked out by its neighbours")
		}
	}
	now = now.Add(rememberRight - 1)
	if !right(t, g, "192.0.2.1", "ann") {
		t.Error("using a login does not keep it in mind")
	}
	checks := 0
	changed := func() error { checks++; return auth.ErrWrongLogin } // the password
	if err := g.Try(fromAddress(t, "192.0.2.1"), "ann", "right", changed); !limited(err) || checks != 1 {
		t.Errorf("a login that is wrong now, its neighbours' allowance used up: %v after %d checks", err, checks)
	}
	if err := g.Try(fromAddress(t, "192.0.2.1"), "ann", "right", changed); !limited(err) || checks != 1 {
		t.Errorf("a login that became wrong is checked again: %v", err)
	}
	g = perHour(2)
	right(t, g, "192.0.2.1", "ann")
	now = now.Add(0)
	g.now = func() time.Time { return time.Now().Add(rememberRight) }
	for i := range 3 {
		wrong(t, g, "192.0.2.1", "ann", fmt.Sprint(i))
	}
	if right(t, g, "192.0.2.1", "ann") {
		t.Error("a login is remembered for too long")
	}
}

// TestGuessesWait: of one client a bounded number waits, for a bounded time, and
// another client does not wait for it.
func TestGuessesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGuesses(ratelimit.Rate{}) // no limit
		var busy, full atomic.Int64
		var wg sync.WaitGroup
		for i := range maxUnheard + 11 {
			wg.Go(func() {
				err := g.Try(fromAddress(t, "192.0.2.1"), "ann", fmt.Sprint(i), func() error { time.Sleep(time.Second); return auth.ErrWrongLogin })
				switch p := ProblemOf(err); p.Status {
				case 429:
					full.Add(1)
				case 503:
					busy.Add(1)
				case 401:
				default:
					t.Errorf("%+v", p)
				}
			})
		}
		synctest.Wait()
		if full.Load() != 10 {
			t.Errorf("%d were refused at once, want 10", full.Load())
		}
		begun := time.Now()
		if !right(t, g, "192.0.2.2", "ann") || time.Since(begun) > 0 {
			t.Error("another client waits")
		}
		ctx, leave := context.WithCancel(fromAddress(t, "192.0.2.1"))
		wg.Go(func() {
			time.Sleep(time.Second / 2)
			if err := g.Try(ctx, "ann", "x", func() error { return nil }); !limited(err) {
				t.Errorf("one more of a client with all places taken: %v", err)
			}
		})
		time.Sleep(1500 * time.Millisecond)
		wg.Go(func() {
			if err := g.Try(ctx, "ann", "y", func() error { return nil }); !errors.Is(err, context.Canceled) {
				t.Errorf("a client that left: %v", err)
			}
		})
		synctest.Wait()
		leave()
		wg.Wait()
		if n := busy.Load(); n < maxUnheard-62 {
			t.Errorf("%d waited in vain, want all but those of a minute", n)
		}
	})
}

// TestGuessesKeepNoSecret: what is remembered is hashed, and its size does not
// depend on what strangers send.
func TestGuessesKeepNoSecret(t *testing.T) {
	g := perHour(3)
	if len(g.bucket("a", strings.Repeat("x", 1<<16))) != len(g.bucket("a", "")) {
		t.Error("a long user name is kept")
	}
	if g.hash("a", "bc") == g.hash("ab", "c") || g.hash("a", "b") == perHour(3).hash("a", "b") {
		t.Error("logins are confused, or their hashes have no key")
	}
}
