package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
)

// image is a manifest or an index with all blobs and manifests that it refers to,
// ready to push. The JSON is written here and not by go-containerregistry's
// mutate, because some images lack members that its types always write.
type image struct {
	mediaType types.MediaType
	manifest  []byte
	platform  *v1.Platform
	blobs     []v1.Layer // config and layers
	children  []image    // images of an index
}

var _ remote.Taggable = image{}

func (i image) RawManifest() ([]byte, error)        { return i.manifest, nil }
func (i image) MediaType() (types.MediaType, error) { return i.mediaType, nil }
func (i image) digest() digest.Digest               { return digest.FromBytes(i.manifest) }

func (i image) descriptor() v1.Descriptor {
	return v1.Descriptor{MediaType: i.mediaType, Size: int64(len(i.manifest)), Digest: hash(i.digest()), Platform: i.platform}
}

func (i image) push(ctx context.Context, to *remote.Pusher, ref name.Reference) error {
	for _, child := range i.children {
		if err := child.push(ctx, to, ref.Context().Digest(child.digest().String())); err != nil {
			return err
		}
	}
	for _, blob := range i.blobs {
		if err := to.Upload(ctx, ref.Context(), blob); err != nil {
			return fmt.Errorf("push a blob of %s: %w", ref, err)
		}
	}
	if err := to.Put(ctx, ref, i); err != nil {
		return fmt.Errorf("push %s: %w", ref, err)
	}
	return nil
}

// family is the set of media types in an image's manifests.
type family struct{ manifest, index, config, gzip, zstd types.MediaType }

var (
	docker = family{
		manifest: types.DockerManifestSchema2,
		index:    types.DockerManifestList,
		config:   types.DockerConfigJSON,
		gzip:     types.DockerLayer,
	}
	oci = family{
		manifest: types.OCIManifestSchema1,
		index:    types.OCIImageIndex,
		config:   types.OCIConfigJSON,
		gzip:     types.OCILayer,
		zstd:     types.OCILayerZStd,
	}
)

// built is the creation time of every image.
var built = v1.Time{Time: time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)}

// image describes layers as a complete image, with a history as docker build
// writes it: one entry per layer and one that made no layer.
func (f family) image(arch string, config v1.Config, layers ...layer) image {
	full := v1.ConfigFile{
		Architecture: arch,
		OS:           "linux",
		Created:      built,
		Config:       config,
		RootFS:       rootFS(layers),
	}
	for n := range layers {
		full.History = append(full.History, v1.History{Created: built, CreatedBy: fmt.Sprintf("ADD layer %d", n)})
	}
	full.History = append(full.History, v1.History{Created: built, CreatedBy: "CMD", EmptyLayer: true})
	return f.describe(arch, encode(full), layers)
}

// bare describes layers with only the required members of a config: neither
// history nor config.
func (f family) bare(arch string, layers ...layer) image {
	return f.describe(arch, encode(map[string]any{"architecture": arch, "os": "linux", "rootfs": rootFS(layers)}), layers)
}

func (f family) describe(arch string, config []byte, layers []layer) image {
	manifest := v1.Manifest{SchemaVersion: 2, MediaType: f.manifest, Config: describe(f.config, config)}
	blobs := []v1.Layer{static.NewLayer(config, f.config)}
	for _, l := range layers {
		mediaType := f.gzip
		if l.zstd {
			mediaType = f.zstd
		}
		manifest.Layers = append(manifest.Layers, describe(mediaType, l.blob))
		blobs = append(blobs, static.NewLayer(l.blob, mediaType))
	}
	return image{
		mediaType: f.manifest,
		manifest:  encode(manifest),
		platform:  &v1.Platform{OS: "linux", Architecture: arch},
		blobs:     blobs,
	}
}

// of makes an index of the images, followed by the attestations.
func (f family) of(images []image, attestations ...attestation) image {
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: f.index}
	for _, i := range images {
		index.Manifests = append(index.Manifests, i.descriptor())
	}
	children := slices.Clone(images)
	for _, a := range attestations {
		index.Manifests = append(index.Manifests, a.descriptor())
		children = append(children, a.image)
	}
	return image{mediaType: f.index, manifest: encode(index), children: children}
}

func rootFS(layers []layer) v1.RootFS {
	fs := v1.RootFS{Type: "layers"}
	for _, l := range layers {
		fs.DiffIDs = append(fs.DiffIDs, hash(l.diffID))
	}
	return fs
}

func describe(mediaType types.MediaType, content []byte) v1.Descriptor {
	return v1.Descriptor{MediaType: mediaType, Size: int64(len(content)), Digest: hash(digest.FromBytes(content))}
}

func hash(d digest.Digest) v1.Hash {
	return v1.Hash{Algorithm: d.Algorithm().String(), Hex: d.Encoded()}
}

// encode returns the value as JSON. It panics on values without a JSON form,
// which this package does not have.
func encode(value any) []byte {
	content, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		panic(err)
	}
	return content
}
