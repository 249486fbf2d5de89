// Package flight shares the work of concurrent callers.
package flight

import (
	"context"
	"time"

	"golang.org/x/sync/singleflight"
)

// Do runs f at most once at a time for each key of the group and hands its
// result, value and error, to all concurrent callers. f gets a deadline of its
// own, limit from its start, and continues when the caller that started it goes
// away; the values of that caller's context stay visible to it. A caller whose
// context ends first gets the zero value and the context's error.
//
// All functions of one group return a T. A panic of f ends the process, because
// the callers could not be told otherwise.
func Do[T any](ctx context.Context, group *singleflight.Group, key string, limit time.Duration, f func(context.Context) (T, error)) (T, error) {
	var none T
	select {
	case <-ctx.Done():
		return none, ctx.Err()
	case res := <-start(ctx, group, key, limit, f):
		value, _ := res.Val.(T) // a nil T that is an interface has no type
		return value, res.Err
	}
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
