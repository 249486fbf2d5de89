package upstream

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waveproxy/waveproxy/budget"
)

// TestQueueSlotsOfClients: clients whose requests are answered slowly leave slots to
// others: one client or group half of them, several all but the last quarter and one.
func TestQueueSlotsOfClients(t *testing.T) {
	grouped := func(i int) *budget.Budget {
		return budget.NewLedger(budget.Limits{}).OpenIn(fmt.Sprint("2001:db8:1:", i, "::/64"), "2001:db8:1::/48")
	}
	for name, test := range map[string]struct {
		client func(i int) *budget.Budget
		most   int
	}{
		"one address":   {func(int) *budget.Budget { return budget.NewLedger(budget.Limits{}).Open("192.0.2.1") }, 32},
		"one network":   {grouped, 32},
		"two addresses": {func(i int) *budget.Budget { return budget.NewLedger(budget.Limits{}).Open(fmt.Sprint(i % 2)) }, 48},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			q := newQueue(64)
			taken := 0
			for i := range 1000 {
				go func() {
					if leave, err := q.enter(budget.With(ctx, test.client(i)), host, of("")); err == nil {
						taken++
						<-ctx.Done()
						leave()
					}
				}()
				synctest.Wait()
			}
			if taken != test.most {
				t.Errorf("%s: has %d of 64 slots, want %d", name, taken, test.most)
			}
			begun := time.Now()
			leave, err := q.enter(as(ctx, "honest"), host, of(""))
			if err != nil || time.Since(begun) > 0 {
				t.Errorf("%s: another client waits %s, %v", name, time.Since(begun), err)
			}
			leave()
			cancel()
			synctest.Wait()
			empty(t, q)
		})
	}
}

// TestQueueTakesNetworksInTurns: a thousand clients of one network are one party in the
// line of a host.
func TestQueueTakesNetworksInTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(16)
		ask := func(b *budget.Budget) error {
			leave, err := q.enter(budget.With(t.Context(), b), host, of(""))
			if err != nil {
				return err
			}
			time.Sleep(time.Second / 4)
			leave()
			return nil
		}
		for i := range 1200 {
			go func() {
				_ = ask(budget.NewLedger(budget.Limits{}).OpenIn(fmt.Sprint(i), []string{"network", "user ann"}[i%2]))
			}()
		}
		synctest.Wait()
		begun := time.Now()
		if err := ask(budget.NewLedger(budget.Limits{}).Open("honest")); err != nil || time.Since(begun) > time.Second {
			t.Errorf("another client waits %s, %v", time.Since(begun), err)
		}
		time.Sleep(time.Minute)
		empty(t, q)
	})
}
