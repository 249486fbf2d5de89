package registry

import (
	"context"
	"regexp"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/upstream"
)

var webURL = regexp.MustCompile(`^https?://`)

// included is where a layer of another image came from.
var included = regexp.MustCompile(`^docker://([^/]+)/v2/(.+)/blobs/[^/]+$`)

// permit returns the error with which the image's upstream, or a place that a layer of
// its recipe came from, may not be read on behalf of the grant's identity: by
// upstreams.allow and deny, or by the identity's policy. Every request asks, because
// a name that was made before the configuration changed must not be the way around
// it. The answer is kept with the loaded image, because a client's policy never
// changes. It touches no network.
func permit(ctx context.Context, client *upstream.Client, img *image) error {
	img.judged.Do(func() { img.verdict = judge(context.WithoutCancel(ctx), client, img) })
	return img.verdict
}

func judge(ctx context.Context, client *upstream.Client, img *image) error {
	if err := client.Check(img.target); err != nil {
		return err
	}
	if _, administrators := auth.RecipeOf(img.target.Identity); !administrators {
		ctx = upstream.As(ctx, img.target.Identity)
	}
	var last auth.Target
	for _, layer := range img.grant.Recipe.Layers {
		m := included.FindStringSubmatch(layer.Location)
		if m == nil {
			if !webURL.MatchString(layer.Location) {
				continue // came with a request, or from this machine
			}
			for _, url := range append([]string{layer.Location}, layer.Via...) {
				if err := client.CheckURL(ctx, url); err != nil {
					return err
				}
			}
			continue
		}
		t := auth.Target{Identity: img.target.Identity, Registry: m[1], Repository: m[2]}
		if t == last {
			continue
		}
		if err := client.Check(t); err != nil {
			return err
		}
		last = t
	}
	return nil
}
