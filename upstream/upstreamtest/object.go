package upstreamtest

import (
	"encoding/json"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment/archivetest"
)

// Object is a manifest, an index, a blob or a file with its media type.
type Object struct {
	MediaType string
	Data      []byte
}

// JSON returns v as an object.
func JSON(t testing.TB, mediaType string, v any) Object {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return Object{mediaType, data}
}

func (o Object) Digest() digest.Digest { return digest.FromBytes(o.Data) }

func (o Object) Descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: o.MediaType, Digest: o.Digest(), Size: int64(len(o.Data))}
}

// ManifestPath is the path of a manifest: ref is a tag or a digest.
func ManifestPath(repository, ref string) string { return "/v2/" + repository + "/manifests/" + ref }

// BlobPath is the path of a blob.
func BlobPath(repository string, d digest.Digest) string {
	return "/v2/" + repository + "/blobs/" + d.String()
}

// PutFile serves data at a path, as a web site does. Nil data removes it.
func (r *Registry) PutFile(path string, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if data == nil {
		delete(r.objects, path)
		return
	}
	r.objects[path] = Object{Data: data}
}

// PutBlob serves a blob by its digest, and returns it.
func (r *Registry) PutBlob(repository string, o Object) Object {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.objects[BlobPath(repository, o.Digest())] = o
	return o
}

// PutManifest serves a manifest or an index by its digest and the tags, and returns
// it.
func (r *Registry) PutManifest(repository string, o Object, tags ...string) Object {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ref := range append(tags, o.Digest().String()) {
		r.objects[ManifestPath(repository, ref)] = o
	}
	return o
}

// Image is an image of one platform.
type Image struct{ Manifest, Config, Layer Object }

// PushImage serves an image of linux and the architecture, whose one layer holds the
// files. Files and architecture determine its digest.
func (r *Registry) PushImage(t testing.TB, repository, architecture string, files []archivetest.File, tags ...string) Image {
	t.Helper()
	archive := archivetest.Tar(t, files...)
	var img Image
	img.Layer = r.PutBlob(repository, Object{ocispec.MediaTypeImageLayerGzip, archivetest.Stored(t, archive)})
	img.Config = r.PutBlob(repository, JSON(t, ocispec.MediaTypeImageConfig, ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: architecture},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(archive)}},
	}))
	img.Manifest = r.PutManifest(repository, JSON(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: img.Config.Descriptor(), Layers: []ocispec.Descriptor{img.Layer.Descriptor()},
	}), tags...)
	return img
}

// Index is an image of several platforms.
type Index struct {
	Index       Object
	Images      []Image // in the order of the architectures
	Attestation Object  // a manifest as BuildKit attaches it
}

// PushIndex serves an index of one image per architecture, whose layers hold etc/base
// with the text and the architecture, and an attestation as BuildKit makes it.
func (r *Registry) PushIndex(t testing.TB, repository, tag, text string, architectures ...string) Index {
	t.Helper()
	var x Index
	var entries []ocispec.Descriptor
	for _, architecture := range architectures {
		img := r.PushImage(t, repository, architecture, []archivetest.File{{Name: "etc/base", Text: text + architecture, Mode: 0o644}})
		x.Images = append(x.Images, img)
		desc := img.Manifest.Descriptor()
		desc.Platform = &ocispec.Platform{OS: "linux", Architecture: architecture}
		entries = append(entries, desc)
	}
	x.Attestation = r.PutManifest(repository, JSON(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: ocispec.DescriptorEmptyJSON,
		Layers: []ocispec.Descriptor{}, Annotations: map[string]string{"of": text},
	}))
	desc := x.Attestation.Descriptor()
	desc.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	desc.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	x.Index = r.PutManifest(repository, JSON(t, ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: append(entries, desc),
	}), tag)
	return x
}
