package registry

import (
	"context"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/budget"
)

// kept is what stays in memory of a descriptor besides its digest.
type kept struct {
	mediaType string
	size      int64
}

// descriptors are kept by digest.
type descriptors map[digest.Digest]kept

// slotCost is what an entry of a map of digests costs in bytes at most, besides
// the bytes of its strings: maps are between 3/8 and 7/8 full.
const slotCost = 144

// mediaTypes are the media types of nearly all descriptors. Descriptors share
// these strings.
var mediaTypes = map[string]string{}

func init() {
	for _, t := range []string{
		ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig,
		ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd,
		"application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.distribution.manifest.v2+json",
		"application/vnd.docker.container.image.v1+json", "application/vnd.docker.image.rootfs.diff.tar.gzip",
	} {
		mediaTypes[t] = t
	}
}

// add keeps what is needed of the descriptor, and returns what that costs in bytes:
// nothing if the digest is there already.
func (k descriptors) add(desc ocispec.Descriptor) int64 {
	if _, ok := k[desc.Digest]; ok {
		return 0
	}
	cost := slotCost + textCost(string(desc.Digest))
	mediaType, shared := mediaTypes[desc.MediaType]
	if !shared {
		mediaType = desc.MediaType
		cost += textCost(mediaType)
	}
	k[desc.Digest] = kept{mediaType, desc.Size}
	return cost
}

// get returns the descriptor with a digest.
func (k descriptors) get(d digest.Digest) (ocispec.Descriptor, bool) {
	v, ok := k[d]
	return ocispec.Descriptor{MediaType: v.mediaType, Digest: d, Size: v.size}, ok
}

// textCost is what the bytes of a string cost: allocations come in sizes that are at
// most an eighth apart.
func textCost(s string) int64 { return int64(len(s)) + int64(len(s))/8 + 8 }

// holdFor charges the image to the request, until it has ended, unless the image is
// in memory for all requests.
func (img *image) holdFor(ctx context.Context) error {
	if img.shared {
		return nil
	}
	return budget.HoldFor(ctx, budget.Memory, img.cost)
}
