package assemble

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/augment/archivetest"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// pushMany serves an index of images, all of which have the layers.
func pushMany(t *testing.T, r *upstreamtest.Registry, tag string, images int, layers []ocispec.Descriptor, diffID digest.Digest) {
	t.Helper()
	var index ocispec.Index
	index.Versioned, index.MediaType = specs.Versioned{SchemaVersion: 2}, ocispec.MediaTypeImageIndex
	for i := range images {
		platform := ocispec.Platform{OS: "linux", Architecture: fmt.Sprint("a", i)}
		config := r.PutBlob("library/many", upstreamtest.JSON(t, ocispec.MediaTypeImageConfig, ocispec.Image{
			Platform: platform, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: slices.Repeat([]digest.Digest{diffID}, len(layers))},
		}))
		desc := r.PutManifest("library/many", upstreamtest.JSON(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
			Versioned: index.Versioned, MediaType: ocispec.MediaTypeImageManifest, Config: config.Descriptor(), Layers: layers,
		})).Descriptor()
		desc.Platform = &platform
		index.Manifests = append(index.Manifests, desc)
	}
	r.PutManifest("library/many", upstreamtest.JSON(t, ocispec.MediaTypeImageIndex, index), tag)
}

// TestManyIncluded: an image of 20 platforms with 125 layers each may be included, and
// one with more than MaxIncluded layers is refused before it costs memory.
func TestManyIncluded(t *testing.T) {
	f := newFixture(t)
	plain := archivetest.Tar(t, archivetest.File{Name: "opt/added", Mode: 0o644})
	layer := f.registry.PutBlob("library/many", upstreamtest.Object{MediaType: ocispec.MediaTypeImageLayerGzip, Data: archivetest.Gzip(t, plain)})
	push := func(tag string, images, layers int) {
		t.Helper()
		pushMany(t, f.registry, tag, images, slices.Repeat([]ocispec.Descriptor{layer.Descriptor()}, layers), digest.FromBytes(plain))
	}
	push("20", 20, 125)
	push("5", 5, 1000)
	layers, err := f.resolver.IncludedLayers(t.Context(), "", parse(t, "many:20"), nil)
	if err != nil || len(layers) != 2500 {
		t.Errorf("20 platforms: %d layers, %v", len(layers), err)
	}
	layers, err = f.resolver.IncludedLayers(t.Context(), "", parse(t, "many:5"), nil)
	if refusal, ok := errors.AsType[*augment.Error](err); !ok || len(layers) > 0 || !strings.Contains(refusal.Error(), "at most 4096 are taken") {
		t.Errorf("5000 layers: %d, %v", len(layers), err)
	}
}

// TestLargeIncluded: a layer whose descriptor has more bytes than the limit is not
// fetched.
func TestLargeIncluded(t *testing.T) {
	f := newFixture(t)
	d := digest.FromString("never fetched")
	pushMany(t, f.registry, "large", 1, []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: d, Size: maxLayer + 1}}, d)
	_, err := f.resolver.IncludedLayers(t.Context(), "", parse(t, "many:large"), nil)
	if _, ok := errors.AsType[*augment.Error](err); !ok || !strings.Contains(err.Error(), "layers.max_size") {
		t.Errorf("error %v", err)
	}
	for _, line := range f.registry.TakeLines() {
		if strings.Contains(line, d.String()) {
			t.Errorf("%s", line)
		}
	}
}
