package fairqueue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestGroupTurns: a group of a thousand clients is one party beside another client, and
// its clients take turns among themselves.
func TestGroupTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(Options{Slots: 1})
		var order []string
		var mu sync.Mutex
		for i := range 1000 {
			come(t, q, &order, &mu, In("network", fmt.Sprint(i%500)), fmt.Sprint(i))
		}
		for i := range 3 {
			come(t, q, &order, &mu, "honest", fmt.Sprint(i))
		}
		come(t, q, &order, &mu, In("another", "x"), "0")
		time.Sleep(time.Hour)
		mu.Lock()
		defer mu.Unlock()
		for i, name := range []string{"honest/0", "honest/1", "honest/2", In("another", "x") + "/0"} {
			if at := slices.Index(order, name); at > 2*(i+1)+2 {
				t.Errorf("%q came as number %d", name, at)
			}
		}
		seen := map[string]int{}
		for _, name := range order[:503] {
			seen[name]++
		}
		if len(seen) != 503 || slices.Index(order, In("network", "499")+"/499") > 510 {
			t.Error("the clients of a group take no turns")
		}
		if !q.Idle() {
			t.Error("idle, and the resource is kept")
		}
	})
}

// TestGroupShare: all clients of a group together have half of the slots and of the
// room to wait.
func TestGroupShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		q := New(Options{Slots: 8, PerClient: 2, AllWaiting: 40})
		taken, full := 0, 0
		var mu sync.Mutex
		enter := func(client string) {
			go func() {
				leave, err := q.Enter(ctx, "r", client, "")
				mu.Lock()
				defer mu.Unlock()
				if errors.Is(err, ErrFull) {
					full++
				}
				if err == nil {
					taken++
					context.AfterFunc(ctx, leave)
				}
			}()
			synctest.Wait()
		}
		for i := range 60 {
			enter(In("network", fmt.Sprint(i)))
		}
		if taken != 4 || full != 36 {
			t.Errorf("a group has %d of 8 slots and is refused %d times of 60", taken, full)
		}
		for i := range 4 {
			enter(fmt.Sprint("single ", i))
		}
		if taken != 8 {
			t.Errorf("others get %d slots, want 4", taken-4)
		}
		cancel()
		synctest.Wait()
		if !q.Idle() {
			t.Error("idle, and the resource is kept")
		}
	})
}

// TestSlotsOfNewcomers: the last slots are for clients that have none, also when a slot
// becomes free.
func TestSlotsOfNewcomers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(Options{Slots: 8, PerClient: 4, Newcomers: 2})
		var leaves []func()
		var mu sync.Mutex
		has := map[string]int{}
		enter := func(client string) {
			go func() {
				leave, err := q.Enter(t.Context(), "r", client, "")
				if err != nil {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				has[client]++
				leaves = append(leaves, leave)
			}()
			synctest.Wait()
		}
		for range 6 {
			enter("a")
			enter("b")
		}
		if has["a"] != 3 || has["b"] != 3 {
			t.Errorf("two greedy clients have %v of 8 slots", has)
		}
		enter("c")
		enter("c")
		enter("d")
		if has["c"] != 1 || has["d"] != 1 {
			t.Errorf("newcomers have %v", has)
		}
		for n := 0; n < len(leaves); n++ {
			leaves[n]()
			synctest.Wait()
		}
		if has["a"] != 6 || has["b"] != 6 || has["c"] != 2 || !q.Idle() {
			t.Errorf("in the end %v came in, idle %t", has, q.Idle())
		}
	})
}

// TestFewWaiting: three clients that fill three quarters of the room to wait leave
// another one room for all requests of a pull.
func TestFewWaiting(t *testing.T) {
	for room, want := range map[int]int{8: 1, 1024: 16, 16384: 16} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			q := New(Options{Slots: 1, AllWaiting: room})
			refused := map[string]int{}
			var mu sync.Mutex
			enter := func(client string) {
				go func() {
					leave, err := q.Enter(ctx, "r", client, "")
					if errors.Is(err, ErrAllFull) {
						mu.Lock()
						defer mu.Unlock()
						refused[client]++
					}
					if err == nil {
						context.AfterFunc(ctx, leave)
					}
				}()
			}
			for i := range room {
				enter(fmt.Sprint("greedy ", i%3))
			}
			synctest.Wait()
			for range want + 1 {
				enter("newcomer")
			}
			synctest.Wait()
			if refused["newcomer"] != 1 {
				t.Errorf("room for %d: a newcomer is refused %d of %d requests, want 1", room, refused["newcomer"], want+1)
			}
			cancel()
			synctest.Wait()
		})
	}
}
