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

// shared is one run of a function of Calls. The Calls' mutex guards callers and release.
type shared struct {
	wanted  *budget.Shared
	began   *budget.Budget // of the caller that started it
	callers int
	release func() // gives back what the run costs without a caller; nil: it costs nothing
	cancel  context.CancelFunc
	done    chan struct{} // closed when value and err are set
	value   any
	err     error
}

// abandonedCost is what a run without a caller costs in memory, in bytes: its stacks, its
// connection and its buffers, on average of 5,900 that waited for a silent host. The
// requests of callers pay for themselves, until they have left.
const abandonedCost = 64 << 10

// Do runs f at most once at a time for each key of the calls and hands its
// result, value and error, to all concurrent callers. f gets a deadline of its
// own, limit from its start, and continues when the caller that started it goes
// away; the values of that caller's context stay visible to it. A caller whose
// context ends first gets the zero value and the context's error.
//
// A run whose callers have all left is charged to the client that started it. If that
// client holds too much already, the run is canceled.
//
// An error that is private to another caller, the one that started the run, says
// nothing about this caller. The callers that are left then share another run.
//
// All functions of one Calls return a T. A panic of f ends the process, because
// the callers could not be told otherwise.
func Do[T any](ctx context.Context, calls *Calls, key string, limit time.Duration, f func(context.Context) (T, error)) (T, error) {
	for {
		run, own := start(ctx, calls, key, limit, f)
		value, err := wait[T](ctx, calls, key, run, own)
		// Each turn has one caller less, the one that started the run.
		if ctx.Err() != nil || !isPrivate(err) || own {
			return value, err
		}
	}
}

func wait[T any](ctx context.Context, calls *Calls, key string, run *shared, own bool) (T, error) {
	if !own {
		defer run.wanted.Join(ctx)()
	}
	select {
	case <-ctx.Done():
		calls.leave(key, run)
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

// leave takes the caller off the run. The last one leaves a run that is paid for, or ends
// it: the next caller starts anew instead of joining a run that has been canceled.
func (calls *Calls) leave(key string, run *shared) {
	calls.mu.Lock()
	defer calls.mu.Unlock()
	if run.callers--; run.callers > 0 || run.release != nil || calls.runs[key] != run {
		return
	}
	release, err := run.began.Hold(budget.Memory, abandonedCost)
	if err != nil {
		delete(calls.runs, key)
		run.cancel()
		return
	}
	run.release = release
}

// Start runs f as Do does, or leaves it to the run that is under way, and does not
// wait for the result. A caller of Do may join it. It is for work of this server, which is
// charged to no client.
func Start[T any](ctx context.Context, calls *Calls, key string, limit time.Duration, f func(context.Context) (T, error)) {
	start(ctx, calls, key, limit, f) // a caller that does not leave
}

// start returns the run that is under way, or its own.
func start[T any](ctx context.Context, calls *Calls, key string, limit time.Duration, f func(context.Context) (T, error)) (run *shared, own bool) {
	calls.mu.Lock()
	defer calls.mu.Unlock()
	if run := calls.runs[key]; run != nil {
		run.callers++
		return run, false
	}
	detached, wanted, end := budget.Share(context.WithoutCancel(ctx))
	detached, cancel := context.WithTimeout(detached, limit)
	run = &shared{wanted: wanted, began: budget.From(ctx), callers: 1, cancel: cancel, done: make(chan struct{})}
	if calls.runs == nil {
		calls.runs = map[string]*shared{}
	}
	calls.runs[key] = run
	go func() {
		defer end()
		defer cancel()
		run.value, run.err = f(detached)
		if release := calls.end(key, run); release != nil {
			release()
		}
		close(run.done)
	}()
	return run, true
}

// end makes room for another run of the key, and returns what gives back the run's cost.
func (calls *Calls) end(key string, run *shared) (release func()) {
	calls.mu.Lock()
	defer calls.mu.Unlock()
	if calls.runs[key] == run {
		delete(calls.runs, key)
	}
	return run.release
}
