package flight

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestConcurrentCallersShareOneRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var group Calls
		failed := errors.New("half of it")
		runs := 0
		work := func(context.Context) (string, error) {
			runs++
			time.Sleep(time.Second)
			return "half", failed
		}
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if got, err := Do(t.Context(), &group, "key", time.Minute, work); got != "half" || !errors.Is(err, failed) {
					t.Errorf("got %q, %v", got, err)
				}
			})
		}
		wg.Wait()
		if runs != 1 {
			t.Errorf("%d runs, want 1", runs)
		}
		// The result is not kept.
		if _, err := Do(t.Context(), &group, "key", time.Minute, work); !errors.Is(err, failed) || runs != 2 {
			t.Errorf("after the first run: %d runs, error %v", runs, err)
		}
	})
}

func TestOtherKeysRunByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var group Calls
		begun := time.Now()
		var wg sync.WaitGroup
		for _, key := range []string{"a", "b"} {
			wg.Go(func() {
				got, err := Do(t.Context(), &group, key, time.Minute, func(context.Context) (string, error) {
					time.Sleep(time.Second)
					return key, nil
				})
				if got != key || err != nil {
					t.Errorf("%s: %q, %v", key, got, err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(begun); took != time.Second {
			t.Errorf("two keys took %s, want a second for both", took)
		}
	})
}

func TestCallerThatLeaves(t *testing.T) {
	type name struct{}
	synctest.Test(t, func(t *testing.T) {
		var group Calls
		first, leave := context.WithCancel(context.WithValue(t.Context(), name{}, "first"))
		work := func(ctx context.Context) (string, error) {
			time.Sleep(time.Second)
			return ctx.Value(name{}).(string), ctx.Err()
		}
		left := make(chan error, 1)
		go func() {
			got, err := Do(first, &group, "key", time.Minute, work)
			if got != "" {
				t.Errorf("a caller that left got %q", got)
			}
			left <- err
		}()
		synctest.Wait()
		result := make(chan string, 1)
		go func() {
			got, err := Do(t.Context(), &group, "key", time.Minute, work)
			if err != nil {
				t.Error(err)
			}
			result <- got
		}()
		synctest.Wait()
		begun := time.Now()
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) || time.Since(begun) != 0 {
			t.Errorf("left after %s with %v, want at once", time.Since(begun), err)
		}
		if got := <-result; got != "first" {
			t.Errorf("the other caller got %q, want the result of the first's run", got)
		}
	})
}

// TestLimit gives the work its own deadline, whatever that of its caller is.
func TestLimit(t *testing.T) {
	for name, callers := range map[string]time.Duration{"a caller in a hurry": time.Second, "a patient caller": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var group Calls
				ctx, cancel := context.WithTimeout(t.Context(), callers)
				defer cancel()
				const limit = time.Minute
				begun, ended := time.Now(), make(chan time.Duration, 1)
				_, err := Do(ctx, &group, "key", limit, func(ctx context.Context) (int, error) {
					<-ctx.Done()
					ended <- time.Since(begun)
					return 0, ctx.Err()
				})
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != min(callers, limit) {
					t.Errorf("the caller got %v after %s", err, time.Since(begun))
				}
				if got := <-ended; got != limit {
					t.Errorf("the work ended after %s, want %s", got, limit)
				}
			})
		})
	}
}

func TestNilInterface(t *testing.T) {
	var group Calls
	got, err := Do(t.Context(), &group, "key", time.Minute, func(context.Context) (error, error) { return nil, nil })
	if got != nil || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var group Calls
		runs := 0
		work := func(ctx context.Context) (int, error) {
			runs++
			time.Sleep(time.Second)
			return runs, ctx.Err()
		}
		ctx, leave := context.WithCancel(t.Context())
		begun := time.Now()
		Start(ctx, &group, "key", time.Minute, work)
		Start(ctx, &group, "key", time.Minute, work)
		if took := time.Since(begun); took != 0 {
			t.Errorf("Start took %s", took)
		}
		leave()
		if got, err := Do(t.Context(), &group, "key", time.Minute, work); got != 1 || err != nil || runs != 1 {
			t.Errorf("joined: %d, %v after %d runs", got, err, runs)
		}
	})
}

// TestPanic runs in a process of its own: a panic that a handler's recover swallowed
// would leave the other callers waiting.
func TestPanic(t *testing.T) {
	if os.Getenv("FLIGHT_TEST_PANIC") != "" {
		defer func() { _ = recover() }()
		_, _ = Do(t.Context(), new(Calls), "key", time.Minute, func(context.Context) (int, error) { panic("in the work") })
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPanic$")
	cmd.Env = append(os.Environ(), "FLIGHT_TEST_PANIC=1")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "in the work") {
		t.Errorf("exit %v, output:\n%s", err, out)
	}
}
