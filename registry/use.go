package registry

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"
)

// useEvery is how often an image that is pulled is reported to be in use. Storage keeps
// what was used within days at least.
const useEvery = 12 * time.Hour

// keepUsed reports now and then that an image of a recipe is in use, because one that is
// in memory is served without its record being read. A failure costs the image, if it
// lasts for the whole retention: the image is made again at the next pull of its tag.
func keepUsed(ctx context.Context, records Records, log *slog.Logger, img *image, now time.Time) {
	last := img.used.Load()
	if now.Unix()-last < int64(useEvery/time.Second) || !img.used.CompareAndSwap(last, now.Unix()) {
		return
	}
	if err := records.Use(ctx, img.grant.Record, slices.Collect(maps.Keys(img.injected))); err != nil && ctx.Err() == nil {
		log.WarnContext(ctx, "cannot tell the storage that an image is in use, it may be collected", "image", img.grant.Image, "error", err)
	}
}
