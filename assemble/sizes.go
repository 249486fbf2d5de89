package assemble

import (
	"context"
	"regexp"

	"github.com/waveproxy/waveproxy/augment"
)

// noBytes finds the manifests that have to be decoded for checkSizes: hardly any.
var noBytes = regexp.MustCompile(`"size"\s*:\s*0\b`)

// checkSizes returns an *augment.Error for a manifest that says of a layer that it has no
// bytes, although its digest is of some. Docker would pull the layer, containerd and
// podman would refuse it, and this server would have nothing to send. Other wrong sizes
// show when the layer is pulled, for a request for each layer would be needed here.
func checkSizes(ctx context.Context, objects []augment.Object) error {
	for _, o := range objects {
		if !noBytes.Match(o.Data) {
			continue
		}
		refs, err := o.References(ctx)
		if err != nil {
			continue // a config
		}
		for i, l := range refs.Layers {
			if l.Size == 0 && !augment.IsEmpty(l.Digest) {
				return augment.Errorf("the manifest says that layer %d, %s, has 0 bytes, which only the empty blob has; build the image with another tool, or push it again", i+1, l.Digest)
			}
		}
	}
	return nil
}
