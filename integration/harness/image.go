package harness

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/klauspost/compress/zstd"
)

// Verify reads an image, or every image of an index, with a foreign client. It
// verifies every byte, reads each blob once, and returns the root's digest.
func Verify(t *testing.T, image string) string {
	t.Helper()
	desc, err := remote.Get(MustRef(t, image), remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	if !desc.MediaType.IsIndex() {
		img, err := desc.Image()
		if err != nil {
			t.Fatal(err)
		}
		verifyImage(t, img)
		return desc.Digest.String()
	}
	index, err := desc.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range manifest.Manifests {
		if entry.Platform != nil && entry.Platform.OS == "unknown" {
			continue // an attestation has no layers to unpack
		}
		img, err := index.Image(entry.Digest)
		if err != nil {
			t.Fatal(err)
		}
		verifyImage(t, img)
	}
	return desc.Digest.String()
}

// verifyImage reads each layer once and compares digest, size and diff ID. The
// client itself verifies manifest and config.
func verifyImage(t *testing.T, img v1.Image) {
	t.Helper()
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	config := MustConfig(t, img)
	if n, m := len(manifest.Layers), len(config.RootFS.DiffIDs); n != m {
		t.Fatalf("%d layers, %d diff IDs", n, m)
	}
	filled := 0
	for _, h := range config.History {
		if !h.EmptyLayer {
			filled++
		}
	}
	if len(config.History) > 0 && filled != len(manifest.Layers) {
		t.Errorf("%d layers, %d history entries", len(manifest.Layers), filled)
	}
	for i, l := range manifest.Layers {
		layer, err := img.LayerByDigest(l.Digest)
		if err != nil {
			t.Fatal(err)
		}
		blob, err := layer.Compressed()
		if err != nil {
			t.Fatalf("layer %s: %v", l.Digest, err)
		}
		data, err := io.ReadAll(blob)
		blob.Close()
		if err != nil {
			t.Fatalf("layer %s: %v", l.Digest, err)
		}
		if Sum(data) != l.Digest.String() || int64(len(data)) != l.Size {
			t.Errorf("layer %d is %s with %d bytes, want %s with %d", i, Sum(data), len(data), l.Digest, l.Size)
		}
		if got := Sum(Decompress(t, data)); got != config.RootFS.DiffIDs[i].String() {
			t.Errorf("layer %d has diff ID %s, want %s", i, got, config.RootFS.DiffIDs[i])
		}
	}
}

// Decompress unpacks gzip or zstd data.
func Decompress(t *testing.T, data []byte) []byte {
	t.Helper()
	var r io.Reader
	var err error
	if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		r, err = gzip.NewReader(bytes.NewReader(data))
	} else {
		r, err = zstd.NewReader(bytes.NewReader(data))
	}
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// CraneValidate does what "crane validate --remote" does.
func CraneValidate(t *testing.T, image string) error {
	t.Helper()
	desc, err := remote.Get(MustRef(t, image), remote.WithContext(t.Context()))
	if err != nil {
		return err
	}
	if desc.MediaType.IsIndex() {
		index, err := desc.ImageIndex()
		if err != nil {
			return err
		}
		return validate.Index(index)
	}
	img, err := desc.Image()
	if err != nil {
		return err
	}
	return validate.Image(img)
}

// MustRef parses the name of an image on a registry without TLS.
func MustRef(t *testing.T, image string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(image, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// Pull returns an image for linux and the architecture. Layers are read later.
func Pull(t *testing.T, image, arch string) v1.Image {
	t.Helper()
	img, err := remote.Image(MustRef(t, image), remote.WithContext(t.Context()), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: arch}))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// Files returns the flattened file system by name: the text of a file, its digest if
// it is longer than 4 KiB, "dir", or "-> target".
func Files(t *testing.T, img v1.Image) map[string]string {
	t.Helper()
	stream := mutate.Extract(img)
	defer stream.Close()
	return Unpack(t, stream)
}

// Unpack returns the entries of a tar in the form of Files.
func Unpack(t *testing.T, archive io.Reader) map[string]string {
	t.Helper()
	files := map[string]string{}
	entries := tar.NewReader(archive)
	for {
		h, err := entries.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.Trim(strings.TrimPrefix(h.Name, "."), "/")
		switch h.Typeflag {
		case tar.TypeDir:
			files[name] = "dir"
		case tar.TypeSymlink:
			files[name] = "-> " + h.Linkname
		default:
			text, err := io.ReadAll(entries)
			if err != nil {
				t.Fatal(err)
			}
			files[name] = string(text)
			if len(text) > 4096 {
				files[name] = Sum(text)
			}
		}
	}
}

// MustConfig returns the image's config or fails the test.
func MustConfig(t *testing.T, img v1.Image) *v1.ConfigFile {
	t.Helper()
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return c
}
