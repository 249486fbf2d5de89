package flight

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// long is work that takes a minute and counts how it ended.
type long struct{ begun, finished, canceled atomic.Int32 }

func (l *long) run(ctx context.Context) (string, error) {
	l.begun.Add(1)
	select {
	case <-time.After(time.Minute):
		l.finished.Add(1)
		return "done", nil
	case <-ctx.Done():
		l.canceled.Add(1)
		return "", ctx.Err()
	}
}

func (l *long) want(t *testing.T, when string, begun, finished, canceled int32) {
	t.Helper()
	synctest.Wait()
	if l.begun.Load() != begun || l.finished.Load() != finished || l.canceled.Load() != canceled {
		t.Errorf("%s: %d begun, %d finished, %d canceled, want %d, %d, %d", when,
			l.begun.Load(), l.finished.Load(), l.canceled.Load(), begun, finished, canceled)
	}
}

func caller(ctx context.Context, g *Group[string], l *long) <-chan error {
	ended := make(chan error, 1)
	go func() {
		_, err := g.Do(ctx, "key", time.Hour, l.run)
		ended <- err
	}()
	synctest.Wait()
	return ended
}

func TestGroupEndsWithoutCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[string]
		var l long
		first, leaveFirst := context.WithCancel(t.Context())
		second, leaveSecond := context.WithCancel(t.Context())
		one, two := caller(first, &g, &l), caller(second, &g, &l)
		leaveFirst()
		if err := <-one; !errors.Is(err, context.Canceled) {
			t.Errorf("the first caller got %v", err)
		}
		time.Sleep(10 * grace)
		l.want(t, "one caller is left", 1, 0, 0)
		leaveSecond()
		<-two
		time.Sleep(grace - 1)
		l.want(t, "within the grace", 1, 0, 0)
		time.Sleep(time.Nanosecond)
		l.want(t, "after the grace", 1, 0, 1)
		if len(g.runs) != 0 {
			t.Errorf("%d runs are kept", len(g.runs))
		}
	})
}

func TestGroupCallerComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[string]
		var l long
		for range 5 { // each leaves before the next one comes
			ctx, leave := context.WithCancel(t.Context())
			ended := caller(ctx, &g, &l)
			leave()
			<-ended
			time.Sleep(grace / 2)
		}
		if err := <-caller(t.Context(), &g, &l); err != nil {
			t.Error(err)
		}
		l.want(t, "the last caller stayed", 1, 1, 0)
		// The result is not kept.
		if err := <-caller(t.Context(), &g, &l); err != nil {
			t.Error(err)
		}
		l.want(t, "asked again", 2, 2, 0)
	})
}

// TestGroupStartsAnew: a run that was canceled and takes its time to end is not
// joined.
func TestGroupStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[string]
		runs := 0
		work := func(ctx context.Context) (string, error) {
			runs++
			if runs == 1 {
				<-ctx.Done()
				time.Sleep(time.Minute)
			}
			return "done", ctx.Err()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := g.Do(ctx, "key", time.Hour, work); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the first caller got %v", err)
		}
		time.Sleep(2 * grace)
		if got, err := g.Do(t.Context(), "key", time.Hour, work); got != "done" || err != nil || runs != 2 {
			t.Errorf("%q, %v after %d runs", got, err, runs)
		}
		time.Sleep(time.Minute)
	})
}

func TestGroupLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[string]
		var l long
		begun := time.Now()
		if _, err := g.Do(t.Context(), "key", time.Second, l.run); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Second {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
	})
}

type refused struct{ private bool }

func (r refused) Error() string { return "refused" }
func (r refused) Private() bool { return r.private }

// TestPrivateErrors: what one client is refused is no answer for another, in both
// ways to share work.
func TestPrivateErrors(t *testing.T) {
	type name struct{}
	var single Calls
	var group Group[string]
	for way, do := range map[string]func(context.Context, func(context.Context) (string, error)) (string, error){
		"Do": func(ctx context.Context, f func(context.Context) (string, error)) (string, error) {
			return Do(ctx, &single, "key", time.Minute, f)
		},
		"Group": func(ctx context.Context, f func(context.Context) (string, error)) (string, error) {
			return group.Do(ctx, "key", time.Minute, f)
		},
	} {
		for _, private := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				var runs atomic.Int32
				work := func(ctx context.Context) (string, error) {
					runs.Add(1)
					time.Sleep(time.Second)
					if ctx.Value(name{}) == "greedy" {
						return "", refused{private}
					}
					return "good", nil
				}
				var wg sync.WaitGroup
				wg.Go(func() {
					if _, err := do(context.WithValue(t.Context(), name{}, "greedy"), work); err == nil {
						t.Errorf("%s: the greedy client is not refused", way)
					}
				})
				synctest.Wait()
				for range 3 {
					wg.Go(func() {
						if got, err := do(t.Context(), work); (got == "good" && err == nil) != private {
							t.Errorf("%s, private %t: another client got %q, %v", way, private, got, err)
						}
					})
				}
				wg.Wait()
				if want := map[bool]int32{true: 2, false: 1}[private]; runs.Load() != want {
					t.Errorf("%s, private %t: %d runs, want %d", way, private, runs.Load(), want)
				}
			})
		}
	}
}
