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

// waiter enters and tells the order in which slots came.
func waiter(t *testing.T, q *Queue, order *[]string, mu *sync.Mutex, client, name string) {
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
			waiter(t, q, &order, &mu, w[0], w[1])
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
			waiter(t, q, &order, &mu, "greedy", fmt.Sprint(i))
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
		case err := <-wait(q.Again, "d"):
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
		place := l.join(p, "")
		var other chan struct{}
		if next {
			other = l.join(p, "").Value.(chan struct{})
		}
		leave()
		q.abandon(l, p, "", place, func() { q.leave("r", "x") })
		if next {
			select {
			case <-other:
			default:
				t.Fatal("the slot is lost")
			}
			q.leave("r", "x")
		}
		if !q.Idle() {
			t.Error("idle, and the resource is kept")
		}
	}
}
