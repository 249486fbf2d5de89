package flight

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waveproxy/waveproxy/budget"
)

// bothWays runs a test with Do and with a Group. pending is how many runs are known.
func bothWays(t *testing.T, test func(t *testing.T, do func(ctx context.Context, key string, f func(context.Context) (string, error)) error, pending func() int)) {
	t.Run("Do", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var calls Calls
			test(t, func(ctx context.Context, key string, f func(context.Context) (string, error)) error {
				_, err := Do(ctx, &calls, key, time.Hour, f)
				return err
			}, func() int { calls.mu.Lock(); defer calls.mu.Unlock(); return len(calls.runs) })
		})
	})
	t.Run("Group", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var group Group[string]
			test(t, func(ctx context.Context, key string, f func(context.Context) (string, error)) error {
				_, err := group.Do(ctx, key, time.Hour, f)
				return err
			}, func() int { group.mu.Lock(); defer group.mu.Unlock(); return len(group.runs) })
		})
	})
}

func silent(ctx context.Context) (string, error) {
	<-ctx.Done()
	return "", ctx.Err()
}

// TestAbandonedRuns: runs that a client began and left are charged to it until they end, and
// as many go on as it can pay for.
func TestAbandonedRuns(t *testing.T) {
	bothWays(t, func(t *testing.T, do func(context.Context, string, func(context.Context) (string, error)) error, pending func() int) {
		ledger := budget.NewLedger(budget.Limits{budget.Memory: {Client: 10 * abandonedCost}})
		for i := range 100 {
			ctx, leave := context.WithCancel(budget.With(t.Context(), ledger.Open("a")))
			ended := make(chan error, 1)
			go func() { ended <- do(ctx, fmt.Sprint(i), silent) }()
			synctest.Wait()
			leave()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("a client that left got %v", err)
			}
		}
		synctest.Wait()
		if pending() != 10 || ledger.Held(budget.Memory) != 10*abandonedCost {
			t.Errorf("%d runs go on, %d bytes are held", pending(), ledger.Held(budget.Memory))
		}
		// Another client's go on.
		ctx, leave := context.WithCancel(budget.With(t.Context(), ledger.Open("b")))
		go func() { _ = do(ctx, "other", silent) }()
		synctest.Wait()
		leave()
		synctest.Wait()
		if pending() != 11 {
			t.Errorf("%d runs go on beside another client's", pending())
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if pending() != 0 || ledger.Held(budget.Memory) != 0 {
			t.Errorf("in the end %d runs go on, %d bytes are held", pending(), ledger.Held(budget.Memory))
		}
	})
}

// TestWantedRunsAreFree: a run with a caller is neither charged nor canceled, whoever began
// it and however little that client may hold, and its result is for the callers that stay.
func TestWantedRunsAreFree(t *testing.T) {
	bothWays(t, func(t *testing.T, do func(context.Context, string, func(context.Context) (string, error)) error, pending func() int) {
		ledger := budget.NewLedger(budget.Limits{budget.Memory: {Client: 1}})
		first, leave := context.WithCancel(budget.With(t.Context(), ledger.Open("poor")))
		slow := func(ctx context.Context) (string, error) {
			select {
			case <-time.After(time.Minute):
				return "done", nil
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
		go func() { _ = do(first, "key", slow) }()
		synctest.Wait()
		var wg sync.WaitGroup
		for _, client := range []string{"b", "c"} {
			wg.Go(func() {
				if err := do(budget.With(t.Context(), ledger.Open(client)), "key", slow); err != nil {
					t.Errorf("%s got %v", client, err)
				}
			})
		}
		synctest.Wait()
		leave()
		synctest.Wait()
		if pending() != 1 || ledger.Held(budget.Memory) != 0 {
			t.Errorf("%d runs, %d bytes are held", pending(), ledger.Held(budget.Memory))
		}
		wg.Wait()
		// The last one leaves: the next caller starts anew.
		again, leave := context.WithCancel(budget.With(t.Context(), ledger.Open("poor")))
		go func() { _ = do(again, "key", silent) }()
		synctest.Wait()
		leave()
		synctest.Wait()
		if err := do(t.Context(), "key", slow); err != nil {
			t.Errorf("after a canceled run: %v", err)
		}
	})
}
