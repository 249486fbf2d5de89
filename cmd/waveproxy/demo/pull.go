package demo

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
)

// Bounds of one object. Pull is for images as small as the demo's.
const (
	maxMetadata = 4 << 20   // bytes of a manifest or config
	maxLayer    = 64 << 20  // bytes of a compressed layer
	maxArchive  = 256 << 20 // bytes of an uncompressed layer
)

// Pulled is an image that was pulled and unpacked.
type Pulled struct {
	Manifest ocispec.Descriptor
	Config   ocispec.Image
	Layers   []Layer // from the bottom up
	// Dir is a temporary directory with the files of all layers. Remove deletes it.
	Dir string
	// Elapsed is the time from the first request to the last byte unpacked.
	Elapsed time.Duration
}

// Layer is a layer of a Pulled image.
type Layer struct {
	MediaType string
	Digest    digest.Digest // of the compressed bytes
	Size      int64         // of the compressed bytes
	DiffID    digest.Digest // of the uncompressed bytes
	Files     []string      // "etc/os-release": the files and links in it, without directories and whiteouts
	Elapsed   time.Duration // of the transfer
}

// Remove deletes the files of the image.
func (p *Pulled) Remove() error { return os.RemoveAll(p.Dir) }

// Pull pulls an image, by tag or digest, for one platform from a registry that
// speaks plain HTTP, and unpacks it. It checks what a container engine checks:
// the digest and size of the manifest, the config and every layer, and the
// diff IDs in the config against the uncompressed layers. The caller calls
// Remove.
func Pull(ctx context.Context, ref string, platform ocispec.Platform) (*Pulled, error) {
	p, err := pull(ctx, ref, platform)
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", ref, err)
	}
	return p, nil
}

func pull(ctx context.Context, ref string, platform ocispec.Platform) (_ *Pulled, err error) {
	start := time.Now()
	from, hangUp, err := plainRepository(ref)
	if err != nil {
		return nil, err
	}
	defer hangUp()
	options := oras.DefaultResolveOptions
	options.TargetPlatform = &platform
	p := &Pulled{}
	if p.Manifest, err = oras.Resolve(ctx, from, from.Reference.Reference, options); err != nil {
		return nil, fmt.Errorf("resolve for %s/%s: %w", platform.OS, platform.Architecture, err)
	}
	var manifest ocispec.Manifest
	if err := fetchJSON(ctx, from, p.Manifest, &manifest); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if err := fetchJSON(ctx, from, manifest.Config, &p.Config); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if layers, diffIDs := len(manifest.Layers), len(p.Config.RootFS.DiffIDs); layers != diffIDs {
		return nil, fmt.Errorf("the manifest has %d layers, the config %d diff IDs", layers, diffIDs)
	}
	if p.Dir, err = os.MkdirTemp("", "waveproxy-demo-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(p.Dir)
		}
	}()
	root, err := os.OpenRoot(p.Dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	for i, d := range manifest.Layers {
		layer, err := pullLayer(ctx, from, d, p.Config.RootFS.DiffIDs[i], root)
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", d.Digest, err)
		}
		p.Layers = append(p.Layers, layer)
	}
	p.Elapsed = time.Since(start)
	return p, nil
}

func pullLayer(ctx context.Context, from content.Fetcher, d ocispec.Descriptor, diffID digest.Digest, root *os.Root) (Layer, error) {
	layer := Layer{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, DiffID: diffID}
	if !slices.Contains([]string{ocispec.MediaTypeImageLayerGzip, "application/vnd.docker.image.rootfs.diff.tar.gzip"}, d.MediaType) {
		return layer, fmt.Errorf("media type %q is not a gzip-compressed layer", d.MediaType)
	}
	start := time.Now()
	blob, err := fetch(ctx, from, d, maxLayer)
	if err != nil {
		return layer, err
	}
	layer.Elapsed = time.Since(start)
	archive, err := decompress(blob)
	if err != nil {
		return layer, fmt.Errorf("decompress: %w", err)
	}
	if got := digest.FromBytes(archive); got != diffID {
		return layer, fmt.Errorf("the uncompressed digest is %s, the config says %s", got, diffID)
	}
	layer.Files, err = unpack(root, archive)
	return layer, err
}

func decompress(blob []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(blob))
	if err != nil {
		return nil, err
	}
	archive, err := io.ReadAll(io.LimitReader(z, maxArchive+1))
	if err == nil && len(archive) > maxArchive {
		err = fmt.Errorf("more than %d bytes", maxArchive)
	}
	return archive, err
}

func fetchJSON(ctx context.Context, from content.Fetcher, d ocispec.Descriptor, value any) error {
	data, err := fetch(ctx, from, d, maxMetadata)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, value)
}

// fetch returns content that has the size and digest of d.
func fetch(ctx context.Context, from content.Fetcher, d ocispec.Descriptor, limit int64) ([]byte, error) {
	if d.Size > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", d.Digest, d.Size, limit)
	}
	return content.FetchAll(ctx, from, d)
}
