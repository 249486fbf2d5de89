// Package flight shares the work of concurrent callers.
//
// The clients of all callers want the work (package budget, Shared), so it waits for
// its turn in the line of each, and not only in that of the client that began it.
//
// Files: flight.go (Do: work that is worth finishing), group.go (Group: work that
// ends when no caller waits for it).
package flight

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/waveproxy/waveproxy/budget"
)

// Calls are runs that are worth finishing, by key. The zero Calls is ready, and safe
// for concurrent use.
type Calls struct {
	mu   sync.Mutex
	runs map[string]*shared
}

// shared is one run of a function of Calls.
type shared struct {
	wanted *budget.Shared
	done   chan struct{} // closed when value and err are set
	value  any
	err    error
}

// Do runs f at most once at a time for each key of the calls and hands its
// result, value and error, to all concurrent callers. f gets a deadline of its
// own, limit from its start, and continues when the caller that started it goes
// away; the values of that caller's context stay visible to it. A caller whose
// context ends first gets the zero value and the context's error.
//
// An error that is private to another caller, the one that started the run, says
// nothing about this caller. The callers that are left then share another run.
//
// All functions of one Calls return a T. A panic of f ends the process, because
// the callers could not be told otherwise.
func Do[T any](ctx context.Context, calls *Calls, key string, limit time.Duration, f func(context.Context) (T, error)) (T, error) {
	for {
		run, own := start(ctx, calls, key, limit, f)
		value, err := wait[T](ctx, run, own)
		// Each turn has one caller less, the one that started the run.
		if ctx.Err() != nil || !isPrivate(err) || own {
			return value, err
		}
	}
}

func wait[T any](ctx context.Context, run *shared, own bool) (T, error) {
	if !own {
		defer run.wanted.Join(ctx)()
	}
	select {
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	case <-run.done:
		value, _ := run.value.(T) // a nil T that is an interface has no type
		return value, run.err
	}
}

// isPrivate reports whether an error concerns only the caller in whose name the
// work was done, as the refusal of that client's share does.
func isPrivate(err error) bool {
	var private interface{ Private() bool }
	return errors.As(err, &private) && private.Private()
}

// Start runs f as Do does, or leaves it to the run that is under way, and does not
// wait for the result. A caller of Do may join it.
func Start[T any](ctx context.Context, calls *Calls, key string, limit time.Duration, f func(context.Context) (T, error)) {
	start(ctx, calls, key, limit, f)
}

// start returns the run that is under way, or its own.
func start[T any](ctx context.Context, calls *Calls, key string, limit time.Duration, f func(context.Context) (T, error)) (run *shared, own bool) {
	calls.mu.Lock()
	defer calls.mu.Unlock()
	if run := calls.runs[key]; run != nil {
		return run, false
	}
	detached, wanted, end := budget.Share(context.WithoutCancel(ctx))
	run = &shared{wanted: wanted, done: make(chan struct{})}
	if calls.runs == nil {
		calls.runs = map[string]*shared{}
	}
	calls.runs[key] = run
	go func() {
		defer end()
		ctx, cancel := context.WithTimeout(detached, limit)
		defer cancel()
		run.value, run.err = f(ctx)
		calls.mu.Lock()
		delete(calls.runs, key)
		calls.mu.Unlock()
		close(run.done)
	}()
	return run, true
}
