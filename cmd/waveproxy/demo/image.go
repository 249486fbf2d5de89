package demo

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
)

const (
	// Repository and Tag name the image in the demo registry.
	Repository = "demo/hello"
	Tag        = "1.0"
	// Program is the path of the image's only program.
	Program = "/hello"
)

// built is the creation time of the image.
var built = time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)

// builder collects the parts of an image in memory. The first error sticks.
type builder struct {
	ctx   context.Context
	store *memory.Store
	err   error
}

// buildImage returns a store with an OCI index under Tag: an image for every
// architecture of targets, each followed by an attestation, as docker buildx
// makes them.
func buildImage(ctx context.Context) (oras.ReadOnlyTarget, error) {
	b := &builder{ctx: ctx, store: memory.New()}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, arch := range []string{"amd64", "arm64"} {
		image := b.image(arch)
		index.Manifests = append(index.Manifests, image, b.attestation(image))
	}
	root := b.object(ocispec.MediaTypeImageIndex, index)
	if b.err == nil {
		b.err = b.store.Tag(ctx, root, Tag)
	}
	if b.err != nil {
		return nil, fmt.Errorf("build demo image: %w", b.err)
	}
	return b.store, nil
}

func (b *builder) image(arch string) ocispec.Descriptor {
	layer, diffID := b.layer([]file{
		{"etc/", 0o755, ""},
		{"etc/os-release", 0o644, "ID=waveproxy-demo\nNAME=\"waveproxy demo\"\nVERSION_ID=" + Tag + "\n"},
		{Program[1:], 0o755, string(Executable(arch, fmt.Sprintf("Hello from %s:%s on linux/%s. My environment:\n", Repository, Tag, arch)))},
	})
	platform := ocispec.Platform{OS: "linux", Architecture: arch}
	config := b.object(ocispec.MediaTypeImageConfig, ocispec.Image{
		Created:  &built,
		Platform: platform,
		Config: ocispec.ImageConfig{
			Entrypoint: []string{Program},
			Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			WorkingDir: "/",
		},
		RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}},
		History: []ocispec.History{
			{Created: &built, CreatedBy: "COPY /rootfs / # buildkit", Comment: "buildkit.dockerfile.v0"},
			{Created: &built, CreatedBy: `ENTRYPOINT ["` + Program + `"]`, Comment: "buildkit.dockerfile.v0", EmptyLayer: true},
		},
	})
	image := b.manifest(config, layer)
	image.Platform = &platform
	return image
}

// attestation states where an image comes from, in the form of BuildKit:
// https://github.com/moby/buildkit/blob/master/docs/attestations/attestation-storage.md
func (b *builder) attestation(image ocispec.Descriptor) ocispec.Descriptor {
	statement := b.object("application/vnd.in-toto+json", map[string]any{
		"_type":         "https://in-toto.io/Statement/v0.1",
		"predicateType": "https://slsa.dev/provenance/v0.2",
		"subject":       []any{map[string]any{"name": Repository, "digest": map[string]string{"sha256": image.Digest.Encoded()}}},
		"predicate": map[string]any{
			"builder":   map[string]string{"id": ""},
			"buildType": "https://mobyproject.org/buildkit@v1",
		},
	})
	statement.Annotations = map[string]string{"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"}
	unknown := ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	config := b.object(ocispec.MediaTypeImageConfig, ocispec.Image{
		Platform: unknown,
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{statement.Digest}},
	})
	manifest := b.manifest(config, statement)
	manifest.Platform = &unknown
	manifest.Annotations = map[string]string{
		"vnd.docker.reference.digest": image.Digest.String(),
		"vnd.docker.reference.type":   "attestation-manifest",
	}
	return manifest
}

func (b *builder) manifest(config, layer ocispec.Descriptor) ocispec.Descriptor {
	return b.object(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    config,
		Layers:    []ocispec.Descriptor{layer},
	})
}

func (b *builder) object(mediaType string, value any) ocispec.Descriptor {
	content, err := json.Marshal(value)
	return b.blob(mediaType, content, err)
}

// file is an entry of a layer; directories end in a slash.
type file struct {
	name    string
	mode    int64
	content string
}

// layer also returns the digest of the uncompressed archive.
func (b *builder) layer(files []file) (layer ocispec.Descriptor, diffID digest.Digest) {
	var archive, blob bytes.Buffer
	var errs []error
	w := tar.NewWriter(&archive)
	for _, f := range files {
		errs = append(errs, w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content)), ModTime: built}))
		_, err := w.Write([]byte(f.content))
		errs = append(errs, err)
	}
	errs = append(errs, w.Close())
	z := gzip.NewWriter(&blob)
	_, err := z.Write(archive.Bytes())
	errs = append(errs, err, z.Close())
	return b.blob(ocispec.MediaTypeImageLayerGzip, blob.Bytes(), errors.Join(errs...)), digest.FromBytes(archive.Bytes())
}

// blob stores content, unless err says that there is none.
func (b *builder) blob(mediaType string, content []byte, err error) ocispec.Descriptor {
	var d ocispec.Descriptor
	if err == nil {
		d, err = oras.PushBytes(b.ctx, b.store, mediaType, content)
	}
	if b.err == nil {
		b.err = err
	}
	return d
}
