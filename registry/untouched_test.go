package registry

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// pushArtifact serves an artifact with a config, which claims to be an image's if that is
// its media type, and one layer.
func (net *network) pushArtifact(configType, layerType, text string, subject *ocispec.Descriptor, tags ...string) upstreamtest.Object {
	net.t.Helper()
	layer := net.PutBlob("library/app", upstreamtest.Object{MediaType: layerType, Data: []byte(text)})
	config := net.PutBlob("library/app", upstreamtest.JSON(net.t, configType, ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer.Digest()}},
	}))
	return net.PutManifest("library/app", upstreamtest.JSON(net.t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: config.Descriptor(), Layers: []ocispec.Descriptor{layer.Descriptor()}, Subject: subject,
	}), tags...)
}

// TestNamedArtifactTags: what is no image passes under its tag, byte for byte, with its
// blobs, and is read again only when the tag has moved.
func TestNamedArtifactTags(t *testing.T) {
	net := newNetwork(t)
	img := net.PushIndex(t, "library/app", "1", "one", "amd64")
	of := img.Index.Digest().Algorithm().String() + "-" + img.Index.Digest().Encoded()
	for tag, types := range map[string][2]string{
		of + ".sig":  {ocispec.MediaTypeImageConfig, "application/vnd.dev.cosign.simplesigning.v1+json"},
		of + ".att":  {ocispec.MediaTypeImageConfig, "application/vnd.dsse.envelope.v1+json"},
		of + ".sbom": {ocispec.MediaTypeImageConfig, "text/spdx"},
		"chart":      {"application/vnd.cncf.helm.config.v1+json", "application/vnd.cncf.helm.chart.content.v1.tar+gzip"},
		"model":      {"application/vnd.docker.ai.model.config.v0.1+json", "application/vnd.docker.ai.gguf.v3"},
	} {
		s := net.start()
		want := net.pushArtifact(types[0], types[1], tag, nil, tag)
		if a := s.get(toolsApp + tag); !bytes.Equal(a.body, want.Data) || a.header.Get("Content-Type") != want.MediaType {
			t.Errorf("%s: %s, %s", tag, a.header.Get("Content-Type"), a.body)
		}
		pull(t, "tools/library/app", tag, s, net.start())
		net.TakeRequests()
		net.advance(tagTTL + time.Second)
		s.get(toolsApp + tag)
		net.WantAnyOrder(t, "HEAD "+appManifests+tag)
		moved := net.pushArtifact(types[0], types[1], tag+" again", nil, tag)
		net.advance(tagTTL + time.Second)
		if got := s.get(toolsApp + tag); !bytes.Equal(got.body, moved.Data) {
			t.Errorf("%s has moved, and is still %s", tag, got.body)
		}
		s.proxy.Close()
		if s.logged("untouched=true") < 3 {
			t.Errorf("%s: the log does not say that nothing was added", tag)
		}
	}
	// The tag where registries without a referrers API list what is attached.
	list := upstreamtest.JSON(t, ocispec.MediaTypeImageIndex, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{
		net.pushArtifact("application/vnd.oci.empty.v1+json", "text/plain", "note", nil).Descriptor(),
	}})
	net.PutManifest("library/app", list, of)
	s := net.start()
	if a := s.get(toolsApp + of); !bytes.Equal(a.body, list.Data) {
		t.Errorf("the list of attachments became %s", a.body)
	}
	pull(t, "tools/library/app", of, s)
}

// TestNamedAbsentPlatform: nodes get what the registry has. What it lacked is asked for
// again later, although the tag has not moved, and a failing registry lacks nothing.
func TestNamedAbsentPlatform(t *testing.T) {
	net := newNetwork(t)
	img := net.PushIndex(t, "library/app", "1", "one", "amd64", "arm64")
	arm := upstreamtest.ManifestPath("library/app", img.Images[1].Manifest.Digest().String())
	platforms := func(s *replica) int {
		t.Helper()
		return strings.Count(string(s.get(toolsApp+"1").body), `"architecture"`)
	}
	// A refusal and a failure are no absence.
	for _, status := range []int{401, 403, 429, 500, 503} {
		net.AnswerAt(arm, upstreamtest.Status(status))
		if a := net.start().do("GET", toolsApp+"1"); a.status == 200 {
			t.Errorf("with %d for one platform: %s", status, a.body)
		}
		net.advance(maxPause)
	}
	net.AnswerAt(arm, upstreamtest.Status(http.StatusNotFound))
	s := net.start()
	if n := platforms(s); n != 1 {
		t.Fatalf("%d platforms, want the one that is there", n)
	}
	net.advance(tagTTL + time.Second)
	net.TakeRequests()
	platforms(s)
	net.WantAnyOrder(t, "HEAD "+appManifests+"1")
	net.AnswerAt(arm, nil)
	net.advance(partialTTL)
	if n, other := platforms(s), platforms(net.start()); n != 2 || other != 2 {
		t.Errorf("%d platforms, %d at another server, want both", n, other)
	}
	net.advance(partialTTL + tagTTL)
	net.TakeRequests()
	platforms(s)
	net.WantAnyOrder(t, "HEAD "+appManifests+"1")
}
