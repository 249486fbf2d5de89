package registry

import (
	"context"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/upstream"
)

// permit returns the error with which the image's upstream, or a place that a layer of
// its recipe came from, may not be read on behalf of the grant's identity: by
// upstreams.allow and deny, or by the identity's policy. Every request asks, because
// a name that was made before the configuration changed must not be the way around
// it. The answer is kept with the loaded image, because a client's policy never
// changes. It touches no network.
func permit(ctx context.Context, client *upstream.Client, img *image) error {
	img.judged.Do(func() {
		img.verdict = assemble.Permit(context.WithoutCancel(ctx), client, img.target.Identity, img.grant)
	})
	return img.verdict
}
