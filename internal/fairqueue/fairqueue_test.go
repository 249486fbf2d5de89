package fairqueue

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
	"time"
)

// come enters and tells the order in which slots came.
func come(t *testing.T, q *Queue, order *[]string, mu *sync.Mutex, client, name string) {
	go func() {
		leave, err := q.Enter(t.Context(), "host", client, name)
		if err != nil {
			t.Error(err)
			return
		}
		mu.Lock()
		*order = append(*order, client+"/"+name)
		mu.Unlock()
		time.Sleep(time.Second)
		leave()
	}()
	synctest.Wait()
}

// TestTurns: clients first, then their keys, then arrival.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(Options{Slots: 1})
		var order []string
		var mu sync.Mutex
		for _, w := range [][2]string{
			{"a", "0"}, // takes the slot
			{"a", "1"}, {"a", "1"}, {"a", "2"}, {"a", "3"}, {"b", "1"}, {"b", "2"}, {"c", "1"},
		} {
			come(t, q, &order, &mu, w[0], w[1])
		}
		time.Sleep(time.Minute)
		want := []string{"a/0", "a/1", "b/1", "c/1", "a/2", "b/2", "a/3", "a/1"}
		mu.Lock()
		defer mu.Unlock()
		if !slices.Equal(order, want) {
			t.Errorf("order %v, want %v", order, want)
		}
		if !q.Idle() {
			t.Error("a resource that is not in use is kept")
		}
	})
}

// TestManyNames: a client with a thousand names is one party.
func TestManyNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(Options{Slots: 4})
		var order []string
		var mu sync.Mutex
		for i := range 1000 {
			come(t, q, &order, &mu, "greedy", fmt.Sprint(i))
		}
		start := time.Now()
		leave, err := q.Enter(t.Context(), "host", "honest", "x")
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("the honest client waited %s", took)
		}
		leave()
		time.Sleep(time.Hour)
	})
}

// TestPerClient: a client never has more slots than its share, and the others are
// there for the rest.
func TestPerClient(t *testing.T) {
	q := New(Options{Slots: 2, PerClient: 1, Waiting: 2})
	enter := func(client string) (func(), error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		return q.Enter(ctx, "", client, "")
	}
	leave, err := enter("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := enter("a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second slot of one client: %v", err)
	}
	other, err := enter("b")
	if err != nil {
		t.Errorf("another client: %v", err)
	}
	var waiting sync.WaitGroup
	for range 2 {
		waiting.Go(func() {
			if leave, err := q.Enter(t.Context(), "", "a", ""); err != nil {
				t.Error(err)
			} else {
				leave()
			}
		})
	}
	for {
		q.mu.Lock()
		n := q.lines[""].parties["a"].waiting
		q.mu.Unlock()
		if n == 2 {
			break
		}
	}
	if _, err := enter("a"); !errors.Is(err, ErrFull) {
		t.Errorf("a third waiter: %v", err)
	}
	other()
	leave()
	leave()
	waiting.Wait()
	if !q.Idle() {
		t.Error("an idle resource is kept")
	}
}

// TestRandom: never more callers than slots are in, and all slots come back, even
// if callers give up.
func TestRandom(t *testing.T) {
	q := New(Options{Slots: 3, PerClient: 2})
	var out atomic.Int64
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			for range 100 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(300))*time.Microsecond)
				leave, err := q.Enter(ctx, "r", fmt.Sprint(i%5), fmt.Sprint(i))
				cancel()
				if err != nil {
					continue
				}
				if n := out.Add(1); n > 3 {
					t.Errorf("%d slots are out", n)
				}
				time.Sleep(time.Duration(rand.IntN(50)) * time.Microsecond)
				out.Add(-1)
				leave()
			}
		})
	}
	wg.Wait()
	if !q.Idle() {
		t.Error("idle, and resources are kept")
	}
}

// TestAllWaiting: the room to wait is bounded for all, its last quarter is for
// clients that have no request there, and work that was begun is never refused.
func TestAllWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(Options{Slots: 1, AllWaiting: 8})
		ctx, cancel := context.WithCancel(t.Context())
		leave, err := q.Enter(ctx, "r", "a", "")
		if err != nil {
			t.Fatal(err)
		}
		again := func(ctx context.Context, resource, client, name string) (func(), error) {
			return q.Again(ctx, resource, one(client), name)
		}
		wait := func(enter func(context.Context, string, string, string) (func(), error), client string) chan error {
			ended := make(chan error, 1)
			go func() {
				_, err := enter(ctx, "r", client, "")
				ended <- err
			}()
			synctest.Wait()
			return ended
		}
		for range 6 {
			wait(q.Enter, "a")
		}
		if err := <-wait(q.Enter, "a"); !errors.Is(err, ErrAllFull) {
			t.Errorf("a seventh request of one client: %v", err)
		}
		wait(q.Enter, "b")
		wait(q.Enter, "c")
		if err := <-wait(q.Enter, "d"); !errors.Is(err, ErrAllFull) {
			t.Errorf("a ninth request: %v", err)
		}
		select {
		case err := <-wait(again, "d"):
			t.Errorf("work that was begun: %v", err)
		default:
		}
		cancel()
		synctest.Wait()
		leave()
		if !q.Idle() {
			t.Error("idle, and the resource is kept")
		}
	})
}

// TestSlotOfAWaiterThatLeaves: a slot that becomes free in the moment its waiter
// leaves goes to the next waiter.
func TestSlotOfAWaiterThatLeaves(t *testing.T) {
	for _, next := range []bool{false, true} {
		q := New(Options{Slots: 1})
		leave, err := q.Enter(t.Context(), "r", "first", "")
		if err != nil {
			t.Fatal(err)
		}
		l := q.lines["r"]
		p := l.party("x")
		w, other := &waiter{granted: make(chan struct{})}, &waiter{granted: make(chan struct{})}
		l.join(w, p, "")
		if next {
			l.join(other, p, "")
		}
		leave()
		q.abandon("r", w, func() { q.leave("r", w.party) })
		if next {
			select {
			case <-other.granted:
			default:
				t.Fatal("the slot is lost")
			}
			q.leave("r", other.party)
		}
		if !q.Idle() {
			t.Error("idle, and the resource is kept")
		}
	}
}

// several are clients of which more may come.
type several struct {
	names   []string
	joined  func(string)
	stopped bool
}

func (s *several) watch(joined func(string)) func() {
	s.joined = joined
	for _, name := range s.names {
		joined(name)
	}
	return func() { s.stopped = true }
}

// TestSharedWork: work that several clients want has the turn of the first one, costs
// the others no turn, and waits in no line any more. A client that joins later adds its
// own place.
func TestSharedWork(t *testing.T) {
	for _, later := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			q := New(Options{Slots: 1})
			var order []string
			var mu sync.Mutex
			for i := range 100 {
				come(t, q, &order, &mu, "greedy", fmt.Sprint(i))
			}
			work := &several{names: []string{"greedy"}}
			if !later {
				work.names = []string{"greedy", "honest", "another"}
			}
			go func() {
				leave, err := q.EnterFor(t.Context(), "host", work.watch, "popular")
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, "shared")
				mu.Unlock()
				time.Sleep(time.Second)
				leave()
			}()
			synctest.Wait()
			if later {
				work.joined("honest")
				work.joined("another")
			}
			come(t, q, &order, &mu, "honest", "own")
			time.Sleep(time.Hour)
			mu.Lock()
			defer mu.Unlock()
			if at := slices.Index(order, "shared"); at > 2 {
				t.Errorf("joined later %t: the shared work came as number %d, want 2 at most", later, at)
			}
			if at := slices.Index(order, "honest/own"); at > 4 {
				t.Errorf("joined later %t: the honest client's own work came as number %d", later, at)
			}
			work.joined("late") // it has its slot, so this changes nothing
			if len(order) != 102 || !q.Idle() || !work.stopped {
				t.Errorf("joined later %t: %d came in, idle %t, stopped %t", later, len(order), q.Idle(), work.stopped)
			}
		})
	}
}

// TestSharedWorkAtOnce: the slot of one client's share is there for work that another
// one had to wait with.
func TestSharedWorkAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(Options{Slots: 2, PerClient: 1, Waiting: 1})
		greedy, err := q.Enter(t.Context(), "r", "greedy", "")
		if err != nil {
			t.Fatal(err)
		}
		work := &several{names: []string{"greedy"}}
		ctx, cancel := context.WithCancel(t.Context())
		entered := make(chan func(), 1)
		go func() {
			leave, err := q.EnterFor(ctx, "r", work.watch, "")
			if err != nil {
				t.Error(err)
			}
			entered <- leave
		}()
		synctest.Wait()
		if _, err := q.EnterFor(ctx, "r", one("greedy"), ""); !errors.Is(err, ErrFull) {
			t.Errorf("a second waiter: %v", err)
		}
		work.joined("honest")
		leave := <-entered
		full := &several{names: []string{"greedy", "honest"}}
		left := make(chan error, 1)
		go func() {
			_, err := q.EnterFor(ctx, "r", full.watch, "")
			left <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("a waiter that left: %v", err)
		}
		full.joined("third") // it waits no longer
		leave()
		greedy()
		if !q.Idle() {
			t.Error("idle, and the resource is kept")
		}
	})
}
