package registry

import (
	"strings"
	"testing"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// TestBlobWithoutBytes: a layer whose manifest says that it has no bytes is refused:
// an empty answer would look whole.
func TestBlobWithoutBytes(t *testing.T) {
	net := newNetwork(t)
	img := net.PushImage(t, "library/app", "amd64", nil, "1")
	layer := img.Layer.Descriptor()
	layer.Size = 0
	manifest := net.PutManifest("library/app", upstreamtest.JSON(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: img.Config.Descriptor(), Layers: []ocispec.Descriptor{layer},
	}), "none")
	s := net.start()
	s.get(toolsApp + manifest.Digest().String()) // untouched
	for _, method := range []string{"GET", "HEAD"} {
		a := s.do(method, appBlobs+layer.Digest.String())
		if a.status != 403 || method == "GET" && !strings.Contains(string(a.body), "0 bytes, which only the empty blob has") {
			t.Errorf("%s: status %d, %s", method, a.status, a.body)
		}
	}
	if a := s.do("GET", toolsApp+"none"); a.status != 400 || !strings.Contains(string(a.body), "has 0 bytes") {
		t.Errorf("by tag: status %d, %s", a.status, a.body)
	}
}
