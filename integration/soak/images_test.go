package soak

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// layer returns a gzipped tar with one random file of about n bytes, and the
// digest of the tar.
func layer(n int) (data []byte, diffID digest.Digest) {
	content := make([]byte, n)
	_, _ = rand.Read(content)
	var plain bytes.Buffer
	w := tar.NewWriter(&plain)
	must(w.WriteHeader(&tar.Header{Name: "data", Mode: 0o644, Size: int64(n)}))
	_, err := w.Write(content)
	must(err)
	must(w.Close())
	return compressed(plain.Bytes()), digest.FromBytes(plain.Bytes())
}

func compressed(data []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(data)
	must(err)
	must(z.Close())
	return b.Bytes()
}

func encode(v any) []byte {
	data, err := json.Marshal(v)
	must(err)
	return data
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func descriptor(mediaType string, data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

// publish puts an image with the layers into the registry. It puts no blobs
// there: a missing blob is left to the registry's blob function. note makes the
// image's digest unique.
func (r *registry) publish(repository, tag, note string, layers ...ocispec.Descriptor) (manifest ocispec.Descriptor) {
	diffs := make([]digest.Digest, len(layers))
	for i := range layers {
		diffs[i] = digest.FromString(fmt.Sprint(repository, i))
	}
	config := encode(map[string]any{
		"architecture": "amd64", "os": "linux", "author": note,
		"rootfs": ocispec.RootFS{Type: "layers", DiffIDs: diffs},
	})
	data := encode(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: descriptor(ocispec.MediaTypeImageConfig, config), Layers: layers,
	})
	r.put(repository, config)
	return r.putManifest(repository, tag, ocispec.MediaTypeImageManifest, data)
}

// layerOf returns the descriptor of a new layer that the registry has.
func (r *registry) layerOf(repository string, n int) ocispec.Descriptor {
	data, _ := layer(n)
	r.put(repository, data)
	return descriptor(ocispec.MediaTypeImageLayerGzip, data)
}
