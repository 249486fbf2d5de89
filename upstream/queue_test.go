package upstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/waveproxy/waveproxy/auth"
)

const host = "example.org:443"

func of(identity string) auth.Target { return auth.Target{Identity: identity} }

func empty(t *testing.T, q *queue) {
	t.Helper()
	if len(q.hosts) != 0 {
		t.Errorf("%d hosts are left", len(q.hosts))
	}
}

func TestQueueServesInTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1)
		if err := q.enter(t.Context(), host, of("first")); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var served []string
		for _, name := range []string{"a1", "a2", "a3", "a4", "b1", "b2", "c1"} {
			go func() {
				if err := q.enter(t.Context(), host, of(name[:1])); err != nil {
					t.Error(err)
				}
				mu.Lock()
				served = append(served, name)
				mu.Unlock()
			}()
			synctest.Wait() // so that they arrive in this order
		}
		for i := range 7 {
			q.leave(host)
			synctest.Wait()
			if len(served) != i+1 {
				t.Fatalf("one slot was given back, and %d of %d have come in", len(served), i+1)
			}
		}
		if want := []string{"a1", "b1", "c1", "a2", "b2", "a3", "a4"}; !slices.Equal(served, want) {
			t.Errorf("served %v, want %v", served, want)
		}
		q.leave(host)
		empty(t, q)
	})
}

func TestQueueNewcomerIsServedInItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1)
		if err := q.enter(t.Context(), host, of("flood")); err != nil {
			t.Fatal(err)
		}
		var flood atomic.Int32
		for range 1000 {
			go func() {
				if err := q.enter(t.Context(), host, of("flood")); err != nil {
					t.Error(err)
				}
				flood.Add(1)
			}()
		}
		synctest.Wait()
		newcomer := make(chan struct{})
		go func() {
			if err := q.enter(t.Context(), host, of("newcomer")); err != nil {
				t.Error(err)
			}
			close(newcomer)
		}()
		synctest.Wait()
		q.leave(host)
		q.leave(host)
		synctest.Wait()
		<-newcomer
		if flood.Load() != 1 {
			t.Errorf("%d of the flood came before it", flood.Load())
		}
		for range 1000 {
			q.leave(host)
			synctest.Wait()
		}
		empty(t, q)
	})
}

func TestQueueBoundsEachHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(2)
		ctx, cancel := context.WithCancelCause(t.Context())
		for _, h := range []string{"a:443", "b:443"} {
			for range 2 {
				if err := q.enter(ctx, h, of("x")); err != nil {
					t.Fatal(err)
				}
			}
		}
		failed := make(chan error)
		go func() { failed <- q.enter(ctx, "a:443", of("x")) }()
		synctest.Wait()
		cancel(errStalled)
		if err := <-failed; !errors.Is(err, errStalled) {
			t.Errorf("got %v", err)
		}
		for _, h := range []string{"a:443", "b:443"} {
			q.leave(h)
			q.leave(h)
		}
		empty(t, q)
	})
}

// A waiter that leaves frees its own place only.
func TestQueueLeftWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1)
		if err := q.enter(t.Context(), host, of("first")); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		results := make(chan string, 3)
		for i, c := range []context.Context{ctx, t.Context(), ctx} {
			go func() { results <- fmt.Sprint(i, " ", q.enter(c, host, of("x"))) }()
			synctest.Wait()
		}
		cancel()
		synctest.Wait()
		q.leave(host)
		got := []string{<-results, <-results, <-results}
		slices.Sort(got)
		if want := []string{"0 context canceled", "1 <nil>", "2 context canceled"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		q.leave(host)
		empty(t, q)
	})
}

// A slot that becomes free in the moment its waiter leaves goes to the next
// waiter.
func TestQueueSlotForWhoHasLeft(t *testing.T) {
	for _, next := range []bool{false, true} {
		q := newQueue(1)
		if err := q.enter(t.Context(), host, of("first")); err != nil {
			t.Fatal(err)
		}
		place := q.hosts[host].join(of("x"))
		var other chan struct{}
		if next {
			other = q.hosts[host].join(of("x")).Value.(chan struct{})
		}
		q.leave(host)
		q.abandon(host, of("x"), place)
		if next {
			select {
			case <-other:
			default:
				t.Fatal("the slot is lost")
			}
			q.leave(host)
		}
		empty(t, q)
	}
}

func TestQueueLosesNoSlot(t *testing.T) {
	const limit = 3
	q := newQueue(limit)
	var inside, entered atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 2000 {
				ctx, cancel := context.WithCancel(t.Context())
				var left sync.WaitGroup
				if rand.N(2) == 0 {
					left.Go(cancel)
				}
				if err := q.enter(ctx, host, of(string(rune('a'+i%3)))); err == nil {
					if n := inside.Add(1); n > limit {
						t.Errorf("%d at a time", n)
					}
					entered.Add(1)
					inside.Add(-1)
					q.leave(host)
				}
				left.Wait()
				cancel()
			}
		})
	}
	wg.Wait()
	if entered.Load() < 1000 {
		t.Errorf("only %d came in", entered.Load())
	}
	empty(t, q)
}
