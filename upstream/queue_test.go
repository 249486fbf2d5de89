package upstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/budget"
)

const host = "example.org:443"

func of(identity string) auth.Target { return auth.Target{Identity: identity} }

// as returns a context of the client's request.
func as(ctx context.Context, client string) context.Context {
	return budget.With(ctx, budget.NewLedger(budget.Limits{}).Open(client))
}

func empty(t *testing.T, q *queue) {
	t.Helper()
	if !q.fair.Idle() {
		t.Error("a host is left")
	}
}

// queued is a queue whose slots are given back one at a time.
type queued struct {
	*queue
	t      *testing.T
	mu     sync.Mutex
	leaves []func()
	served []string
}

func newQueued(t *testing.T, limit int) *queued { return &queued{queue: newQueue(limit), t: t} }

// come has a request come, in a goroutine, and returns when it is served or waits.
func (q *queued) come(ctx context.Context, name string, target auth.Target) {
	go func() {
		leave, err := q.enter(ctx, host, target)
		if err != nil {
			q.t.Error(err)
			return
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		q.served = append(q.served, name)
		q.leaves = append(q.leaves, leave)
	}()
	synctest.Wait()
}

// leave gives the oldest slot back.
func (q *queued) leave() {
	q.mu.Lock()
	leave := q.leaves[0]
	q.leaves = q.leaves[1:]
	q.mu.Unlock()
	leave()
	synctest.Wait()
}

// TestQueueServesInTurns: clients take turns, then the targets of each client, then
// the order of arrival counts. Without clients, identities take turns.
func TestQueueServesInTurns(t *testing.T) {
	target := func(name string) auth.Target { return auth.Target{Registry: "r", Repository: name} }
	for how, come := range map[string]func(q *queued, name string){
		"clients":                func(q *queued, name string) { q.come(as(q.t.Context(), name[:1]), name, target(name[1:])) },
		"identities":             func(q *queued, name string) { q.come(q.t.Context(), name, of(name[:1])) },
		"repositories":           func(q *queued, name string) { q.come(as(q.t.Context(), "one"), name, target(name[:1])) },
		"identities of a client": func(q *queued, name string) { q.come(as(q.t.Context(), "one"), name, of(name[:1])) },
	} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newQueued(t, 1)
				come(q, "x0")
				for _, name := range []string{"a1", "a2", "a3", "a4", "b1", "b2", "c1"} {
					come(q, name)
				}
				for i := range 7 {
					q.leave()
					if len(q.served) != i+2 {
						t.Fatalf("%d slots were given back, and %d have come in", i+1, len(q.served))
					}
				}
				if want := []string{"x0", "a1", "b1", "c1", "a2", "b2", "a3", "a4"}; !slices.Equal(q.served, want) {
					t.Errorf("served %v, want %v", q.served, want)
				}
				q.leave()
				empty(t, q.queue)
			})
		})
	}
}

// TestQueueNewcomerIsServedInItsTurn: a thousand requests of one client, each for
// another name, delay another client by one of them.
func TestQueueNewcomerIsServedInItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueued(t, 1)
		for i := range 1001 {
			q.come(as(t.Context(), "flood"), "flood", auth.Target{Repository: fmt.Sprint("absent", i)})
		}
		q.come(as(t.Context(), "newcomer"), "newcomer", of("x"))
		q.leave()
		q.leave()
		if at := slices.Index(q.served, "newcomer"); at != 2 {
			t.Errorf("the newcomer came as number %d, want 2", at)
		}
		for range 1000 {
			q.leave()
		}
		empty(t, q.queue)
	})
}

func TestQueueBoundsEachHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(2)
		ctx, cancel := context.WithCancelCause(t.Context())
		var leaves []func()
		for _, h := range []string{"a:443", "b:443"} {
			for range 2 {
				leave, err := q.enter(ctx, h, of("x"))
				if err != nil {
					t.Fatal(err)
				}
				leaves = append(leaves, leave)
			}
		}
		failed := make(chan error)
		go func() {
			_, err := q.enter(ctx, "a:443", of("x"))
			failed <- err
		}()
		synctest.Wait()
		cancel(errStalled)
		if err := <-failed; !errors.Is(err, errStalled) || !errors.Is(err, errQueued) {
			t.Errorf("got %v", err)
		}
		for _, leave := range leaves {
			leave()
		}
		empty(t, q)
	})
}

// A waiter that leaves frees its own place and no other.
func TestQueueLeftWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1)
		first, err := q.enter(t.Context(), host, of("first"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		results := make(chan string, 3)
		for i, c := range []context.Context{ctx, t.Context(), ctx} {
			go func() {
				leave, err := q.enter(c, host, of("x"))
				if err == nil {
					defer leave()
				}
				results <- fmt.Sprint(i, " ", errors.Is(err, context.Canceled), err == nil)
			}()
			synctest.Wait()
		}
		cancel()
		synctest.Wait()
		first()
		got := []string{<-results, <-results, <-results}
		slices.Sort(got)
		if want := []string{"0 true false", "1 false true", "2 true false"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		synctest.Wait()
		empty(t, q)
	})
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
				if leave, err := q.enter(ctx, host, of(string(rune('a'+i%3)))); err == nil {
					if n := inside.Add(1); n > limit {
						t.Errorf("%d at a time", n)
					}
					entered.Add(1)
					inside.Add(-1)
					leave()
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

// TestQueueIsFull: a client with too many waiting requests is told so, at once and
// without retries, and the host is not blamed. Other clients wait as before.
func TestQueueIsFull(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(arrived) })
		<-release
		serveManifest(w, r)
	})
	o := listed(s)
	o.Concurrency = 1
	c, delays := newClient(t, o)
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	ask := func(i int) error {
		_, err := c.Repository(auth.Target{Registry: image.Registry, Repository: fmt.Sprint("absent/n", i)}).Manifest(as(ctx, "greedy"), "1.0")
		return err
	}
	waiting.Go(func() { _ = ask(0) })
	<-arrived
	refused := make(chan struct{}, 1)
	for range maxWaiting + 1 { // one more than there is room for
		waiting.Go(func() {
			leave, err := c.hops.queue.enter(as(ctx, "greedy"), s.Host(), of("x"))
			if err == nil {
				leave()
			} else if ctx.Err() == nil {
				refused <- struct{}{}
			}
		})
	}
	<-refused
	err := ask(1)
	full, _ := errors.AsType[*budget.Exceeded](err)
	if full == nil || full.Scope != budget.OfClient || full.RetryAfter == 0 || !strings.Contains(err.Error(), "limits.upstream") {
		t.Errorf("a client with %d waiting requests got %v", maxWaiting, err)
	}
	if IsTransient(err) || len(delays.All()) != 0 {
		t.Errorf("the host is blamed: transient %t, %d retries", IsTransient(err), len(delays.All()))
	}
	other := make(chan error)
	go func() {
		_, err := c.Repository(image).Manifest(as(t.Context(), "another"), "1.0")
		other <- err
	}()
	cancel()
	close(release)
	if err := <-other; err != nil {
		t.Errorf("another client: %v", err)
	}
	waiting.Wait()
	empty(t, c.hops.queue)
}
