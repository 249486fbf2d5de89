// Package flight shares the work of concurrent callers.
//
// Files: flight.go (Do: work that is worth finishing), group.go (Group: work that
// ends when no caller waits for it).
package flight

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/singleflight"
)

// Do runs f at most once at a time for each key of the group and hands its
// result, value and error, to all concurrent callers. f gets a deadline of its
// own, limit from its start, and continues when the caller that started it goes
// away; the values of that caller's context stay visible to it. A caller whose
// context ends first gets the zero value and the context's error.
//
// An error that is private to another caller, the one that started the run, says
// nothing about this caller. The callers that are left then share another run.
//
// All functions of one group return a T. A panic of f ends the process, because
// the callers could not be told otherwise.
func Do[T any](ctx context.Context, group *singleflight.Group, key string, limit time.Duration, f func(context.Context) (T, error)) (T, error) {
	for {
		own := false
		value, err := wait[T](ctx, start(ctx, group, key, limit, func(ctx context.Context) (T, error) {
			own = true
			return f(ctx)
		}))
		// A run that has ended does not write own any more. Each turn has one caller
		// less, the one that started the run.
		if ctx.Err() != nil || !isPrivate(err) || own {
			return value, err
		}
	}
}

func wait[T any](ctx context.Context, result <-chan singleflight.Result) (T, error) {
	select {
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	case res := <-result:
		value, _ := res.Val.(T) // a nil T that is an interface has no type
		return value, res.Err
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
func Start[T any](ctx context.Context, group *singleflight.Group, key string, limit time.Duration, f func(context.Context) (T, error)) {
	start(ctx, group, key, limit, f)
}

func start[T any](ctx context.Context, group *singleflight.Group, key string, limit time.Duration, f func(context.Context) (T, error)) <-chan singleflight.Result {
	shared := context.WithoutCancel(ctx)
	return group.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(shared, limit)
		defer cancel()
		return f(ctx)
	})
}
