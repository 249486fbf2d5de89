package assemble

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/augment/archivetest"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// TestDevices: devices and pipes are taken in layers of images and refused in others. A
// layer that is rewritten, because it lands below a link, has them still.
func TestDevices(t *testing.T) {
	for name, want := range map[string]tar.Header{
		"character": {Name: "dev/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3},
		"block":     {Name: "dev/loop7", Typeflag: tar.TypeBlock, Mode: 0o660, Uid: 6, Devmajor: 7, Devminor: 300},
		"pipe":      {Name: "dev/initctl", Typeflag: tar.TypeFifo, Mode: 0o600},
		"whiteout":  {Name: "dev/gone", Typeflag: tar.TypeChar},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			var plain bytes.Buffer
			w := tar.NewWriter(&plain)
			if err := errors.Join(w.WriteHeader(&want), w.Close()); err != nil {
				t.Fatal(err)
			}
			data := archivetest.Gzip(t, plain.Bytes())
			push := func(repository string, plain []byte) {
				layer := f.pushLayer(repository, archivetest.Gzip(t, plain))
				config := f.registry.PutBlob(repository, upstreamtest.JSON(t, ocispec.MediaTypeImageConfig, ocispec.Image{
					Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(plain)}}}))
				f.registry.PutManifest(repository, upstreamtest.JSON(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
					Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config.Descriptor(), Layers: []ocispec.Descriptor{layer}}), "x")
			}
			push("library/added", plain.Bytes())
			push("library/linked", archivetest.Tar(t, archivetest.File{Name: "dev", Type: tar.TypeSymlink, Link: "run/dev"}, archivetest.File{Name: "run/dev/", Type: tar.TypeDir, Mode: 0o755}))

			_, err := f.layers.Inline(t.Context(), f.store, bytes.NewReader(data), Expected{})
			if refusal, ok := errors.AsType[*augment.Error](err); !ok || !strings.Contains(refusal.Error(), "device or pipe") {
				t.Errorf("inline: %v", err)
			}
			if _, err := f.layers.Local(t.Context(), bytes.NewReader(data), "dir", Expected{}); err == nil {
				t.Error("a layer of this machine was taken")
			}
			if l, err := f.layers.Image(t.Context(), "", "docker://docker.io/v2/library/added/blobs/"+digest.FromBytes(data).String(), Expected{}); err != nil || l.Digest != digest.FromBytes(data) {
				t.Errorf("docker://: %+v, %v", l, err)
			}
			layers, err := f.resolver.IncludedLayers(t.Context(), "", parse(t, "added:x"), nil)
			if err != nil || len(layers) != 1 || layers[0].Digest != digest.FromBytes(data) {
				t.Fatalf("included: %+v, %v", layers, err)
			}

			img, err := augment.NewAugmenter(125).Apply(t.Context(), f.indexer(auth.Target{Registry: "docker.io", Repository: "library/linked"}), augment.Request{Name: "linked:x", Reference: "x", Recipe: augment.Recipe{Layers: layers}, Archives: f.store})
			if err != nil || len(img.Layers) != 1 || img.Layers[0].Digest == layers[0].Digest {
				t.Fatalf("over a link: %+v, %v", img, err)
			}
			r, err := f.store.Open(t.Context(), img.Layers[0].Digest)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			z, err := gzip.NewReader(r)
			if err != nil {
				t.Fatal(err)
			}
			entries := tar.NewReader(z)
			got, err := entries.Next()
			for err == nil && got.Typeflag == tar.TypeDir {
				got, err = entries.Next()
			}
			if err != nil || got.Name != "run/"+want.Name || got.Typeflag != want.Typeflag || got.Devmajor != want.Devmajor || got.Devminor != want.Devminor || got.Mode != want.Mode || got.Uid != want.Uid {
				t.Errorf("rewritten: %+v, %v", got, err)
			}
		})
	}
}
