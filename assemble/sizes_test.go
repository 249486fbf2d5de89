package assemble

import (
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/augment/archivetest"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// TestLayersWithoutBytes: a manifest that says of a layer with bytes that it has none is
// refused at submit, with and without a recipe. The empty blob is none of them.
func TestLayersWithoutBytes(t *testing.T) {
	f := newFixture(t)
	img := f.registry.PushImage(t, "library/app", "amd64", []archivetest.File{{Name: "etc/app"}})
	manifest := func(tag, spaces string, layers ...ocispec.Descriptor) {
		o := upstreamtest.JSON(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: img.Config.Descriptor(), Layers: layers,
		})
		o.Data = []byte(strings.ReplaceAll(string(o.Data), `"size":`, `"size"`+spaces))
		f.registry.PutManifest("library/app", o, tag)
	}
	none, good := img.Layer.Descriptor(), img.Layer.Descriptor()
	none.Size = 0
	empty := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(nil)}
	empty512 := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.SHA512.FromBytes(nil)}
	manifest("one", ":", none)
	manifest("spaced", " :\t", none)
	tar := none
	tar.MediaType = ocispec.MediaTypeImageLayer
	manifest("tar", ":", tar)
	for _, tag := range []string{"one", "spaced", "tar"} {
		for _, recipe := range []augment.Recipe{{}, {Env: []string{"A=b"}}} {
			_, err := f.resolver.Resolve(t.Context(), ImageRequest{Ref: parse(t, "app:"+tag), Recipe: recipe})
			if e, ok := errors.AsType[*augment.Error](err); !ok || !strings.Contains(e.Error(), none.Digest.String()+", has 0 bytes") {
				t.Errorf("%s: %v", tag, err)
			}
		}
	}
	manifest("empty", ":", empty)
	manifest("empty512", ":", empty512)
	manifest("good", ":", good)
	for _, tag := range []string{"empty", "empty512", "good"} {
		if _, err := f.resolver.Resolve(t.Context(), ImageRequest{Ref: parse(t, "app:"+tag)}); err != nil {
			t.Errorf("%s: %v", tag, err)
		}
	}
}
