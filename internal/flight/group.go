package flight

import (
	"context"
	"sync"
	"time"

	"github.com/waveproxy/waveproxy/budget"
)

// grace is how long a run goes on without a caller, because a client that lost its
// connection comes back.
const grace = 2 * time.Second

// Group shares runs that are of no use without a caller: when the last one has
// left, a run is canceled after a grace of two seconds, or at once if the client that
// started it cannot pay for that. All functions of a Group return a T. The zero Group is ready, and safe for concurrent use.
type Group[T any] struct {
	mu   sync.Mutex
	runs map[string]*run[T]
}

// run is one run of a function. The Group's mutex guards callers, release and idle.
type run[T any] struct {
	wanted  *budget.Shared
	began   *budget.Budget // of the caller that started it
	callers int
	release func()      // gives back what the run costs without a caller; nil: it costs nothing
	idle    *time.Timer // runs while there is no caller
	cancel  context.CancelFunc
	done    chan struct{} // closed when value and err are set
	value   T
	err     error
}

// Do runs f as the function Do does, except that the run ends when no caller waits
// for it any more.
func (g *Group[T]) Do(ctx context.Context, key string, limit time.Duration, f func(context.Context) (T, error)) (T, error) {
	for {
		r, own := g.join(ctx, key, limit, f)
		value, err := g.wait(ctx, key, r, own)
		if ctx.Err() != nil || !isPrivate(err) || own {
			return value, err
		}
	}
}

// join counts the caller to the run under way, or starts one.
func (g *Group[T]) join(ctx context.Context, key string, limit time.Duration, f func(context.Context) (T, error)) (r *run[T], own bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r := g.runs[key]; r != nil {
		r.callers++
		if r.idle != nil {
			r.idle.Stop()
		}
		return r, false
	}
	detached, wanted, end := budget.Share(context.WithoutCancel(ctx))
	shared, cancel := context.WithTimeout(detached, limit)
	r = &run[T]{wanted: wanted, began: budget.From(ctx), callers: 1, cancel: cancel, done: make(chan struct{})}
	if g.runs == nil {
		g.runs = map[string]*run[T]{}
	}
	g.runs[key] = r
	go func() {
		defer end()
		defer cancel()
		r.value, r.err = f(shared)
		if release := g.end(key, r); release != nil {
			release()
		}
		close(r.done)
	}()
	return r, true
}

func (g *Group[T]) wait(ctx context.Context, key string, r *run[T], own bool) (T, error) {
	if !own {
		defer r.wanted.Join(ctx)()
	}
	select {
	case <-r.done:
		return r.value, r.err
	case <-ctx.Done():
		g.leave(key, r)
		var none T
		return none, ctx.Err()
	}
}

// leave takes the caller off the run, and ends one that stays without a caller. The
// next caller starts anew instead of joining a run that has been canceled.
func (g *Group[T]) leave(key string, r *run[T]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r.callers--; r.callers > 0 || g.runs[key] != r {
		return
	}
	if r.release == nil {
		release, err := r.began.Hold(budget.Memory, abandonedCost)
		if err != nil {
			g.forget(key, r)
			r.cancel()
			return
		}
		r.release = release
	}
	r.idle = time.AfterFunc(grace, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if r.callers == 0 {
			g.forget(key, r)
			r.cancel()
		}
	})
}

// end makes room for another run of the key, and returns what gives back the run's cost.
func (g *Group[T]) end(key string, r *run[T]) (release func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget(key, r)
	return r.release
}

// forget makes room for another run of the key. The caller has locked the mutex.
func (g *Group[T]) forget(key string, r *run[T]) {
	if g.runs[key] == r {
		delete(g.runs, key)
	}
}
