package upstream

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/internal/flight"
)

// TestQueueJoinedWork: a client that joins the work of another waits for its own turn,
// not for the other's three hundred names, in a login inside of the work, too.
func TestQueueJoinedWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(4)
		var wg sync.WaitGroup
		ask := func(ctx context.Context, name string) error {
			leave, err := q.enter(ctx, host, auth.Target{Repository: name})
			if err != nil {
				return err
			}
			defer leave()
			time.Sleep(time.Second / 4) // until the answer
			return nil
		}
		for i := range 300 {
			wg.Go(func() {
				if err := ask(as(t.Context(), "greedy"), fmt.Sprint("absent", i)); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		var lookUps, logins flight.Calls
		pull := func(client string) {
			_, err := flight.Do(as(t.Context(), client), &lookUps, "popular", time.Minute, func(ctx context.Context) (int, error) {
				_, err := flight.Do(ctx, &logins, "token", time.Minute, func(ctx context.Context) (int, error) { return 1, ask(ctx, "popular") })
				if err != nil {
					return 0, err
				}
				return 2, ask(ctx, "popular")
			})
			if err != nil {
				t.Error(err)
			}
		}
		wg.Go(func() { pull("greedy") })
		time.Sleep(time.Second)
		begun := time.Now()
		pull("honest")
		if took := time.Since(begun); took > time.Second {
			t.Errorf("the honest client waited %s for what another one had asked for", took)
		}
		wg.Wait()
		empty(t, q)
	})
}

// TestQueuedIsPrivate: work that waited too long in the lines of its clients says
// nothing to a client that joins as it fails.
func TestQueuedIsPrivate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1)
		leave, err := q.enter(t.Context(), host, of("x"))
		if err != nil {
			t.Fatal(err)
		}
		var calls flight.Calls
		pull := func(client string) error {
			_, err := flight.Do(as(t.Context(), client), &calls, "popular", time.Minute, func(ctx context.Context) (int, error) {
				leave, err := q.enter(ctx, host, of("x"))
				if err == nil {
					leave()
				}
				return 0, err
			})
			return err
		}
		first := make(chan error, 1)
		go func() { first <- pull("greedy") }()
		time.Sleep(time.Minute - time.Second)
		second := make(chan error, 1)
		go func() { second <- pull("honest") }()
		time.Sleep(2 * time.Second)
		leave()
		if err := <-first; !IsQueued(err) {
			t.Errorf("the first client: %v", err)
		}
		if err := <-second; err != nil {
			t.Errorf("the second one: %v", err)
		}
	})
}
