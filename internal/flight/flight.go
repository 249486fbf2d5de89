// Package flight shares the work of concurrent callers.
package flight

import (
	"context"
	"time"

	"golang.org/x/sync/singleflight"
)

// Do runs f at most once at a time for each key of the group and hands its
// result to all concurrent callers. f gets a deadline of its own, limit from its
// start, and continues when the caller that started it goes away; the values of
// that caller's context stay visible to it. A caller whose context ends first
// gets the context's error.
func Do[T any](ctx context.Context, group *singleflight.Group, key string, limit time.Duration, f func(context.Context) (T, error)) (T, error) {
	shared := context.WithoutCancel(ctx)
	done := group.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(shared, limit)
		defer cancel()
		return f(ctx)
	})
	var none T
	select {
	case <-ctx.Done():
		return none, ctx.Err()
	case res := <-done:
		if res.Err != nil {
			return none, res.Err
		}
		return res.Val.(T), nil
	}
}
