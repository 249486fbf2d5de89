package assemble

import (
	"context"
	"regexp"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/upstream"
)

var webURL = regexp.MustCompile(`^https?://`)

// included is where a layer of another image came from.
var included = regexp.MustCompile(`^docker://([^/]+)/v2/(.+)/blobs/[^/]+$`)

// Permit returns the error with which the image's upstream, or a place that a layer of
// its recipe came from, may not be read on behalf of the identity: by upstreams.allow
// and deny, or by the identity's policy. It touches no network.
func Permit(ctx context.Context, client *upstream.Client, identity string, g *auth.Grant) error {
	if err := client.Check(target(identity, g)); err != nil {
		return err
	}
	if _, administrators := auth.RecipeOf(identity); !administrators {
		ctx = upstream.As(ctx, identity)
	}
	var last auth.Target
	for _, layer := range g.Recipe.Layers {
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
		t := auth.Target{Identity: identity, Registry: m[1], Repository: m[2]}
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
