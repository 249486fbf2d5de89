package registry

import (
	"context"
	"time"

	"golang.org/x/sync/singleflight"
)

// together runs f once for everybody who asks for the key meanwhile, and gives
// it limit. It goes on when the one whose request started it leaves.
func together[T any](ctx context.Context, flights *singleflight.Group, key string, limit time.Duration, f func(context.Context) (T, error)) (T, error) {
	shared := context.WithoutCancel(ctx)
	done := flights.DoChan(key, func() (any, error) {
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
