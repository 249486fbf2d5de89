package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
)

// image is what a grant gives access to: every digest reachable from its root
// and where the bytes are.
type image struct {
	grant  *auth.Grant
	target auth.Target

	manifests  map[digest.Digest]ocispec.Descriptor // in the store
	atHand     map[digest.Digest][]byte             // those of them that are small
	sizeAtHand int
	configs    map[digest.Digest]ocispec.Descriptor // in the store
	injected   map[digest.Digest]ocispec.Descriptor // layers in the store
	foreign    map[digest.Digest]ocispec.Descriptor // blobs the upstream has

	mu     sync.Mutex
	unread map[digest.Digest]ocispec.Descriptor // manifests that nobody has asked for yet
	later  map[digest.Digest]ocispec.Descriptor // those that were read, and are in the store
	extra  map[digest.Digest]ocispec.Descriptor // the upstream blobs they name

	attests  sync.Once
	attested map[digest.Digest]digest.Digest // of provenance, to what it is about
}

// maxDocument bounds a manifest, index or config read into memory.
const maxDocument = 4 << 20

// maxAtHand bounds a manifest that stays in memory, and maxAllAtHand those of one
// image together: nearly all are smaller, and are asked for by every node.
const (
	maxAtHand    = 32 << 10
	maxAllAtHand = 512 << 10
)

// maxUnread bounds how many manifests one unknown digest may cause to be read.
const maxUnread = 64

// loadImage walks the grant's image through the store, starting at its root.
// The result does not depend on how the image was computed, so images outlive
// restarts and upgrades.
func loadImage(ctx context.Context, store blobstore.Store, grant *auth.Grant) (*image, error) {
	domain, path := splitName(grant.Image)
	img := &image{
		grant:     grant,
		target:    auth.Target{Identity: grant.Identity, Registry: domain, Repository: path},
		manifests: map[digest.Digest]ocispec.Descriptor{},
		atHand:    map[digest.Digest][]byte{},
		configs:   map[digest.Digest]ocispec.Descriptor{},
		injected:  map[digest.Digest]ocispec.Descriptor{},
		foreign:   map[digest.Digest]ocispec.Descriptor{},
		unread:    map[digest.Digest]ocispec.Descriptor{},
		later:     map[digest.Digest]ocispec.Descriptor{},
		extra:     map[digest.Digest]ocispec.Descriptor{},
	}
	return img, img.walk(ctx, store, grant.Root)
}

func (img *image) walk(ctx context.Context, store blobstore.Store, desc ocispec.Descriptor) error {
	if _, seen := img.manifests[desc.Digest]; seen {
		return nil
	}
	img.manifests[desc.Digest] = desc
	data, err := readStored(ctx, store, desc)
	if err != nil {
		return err
	}
	refs, err := augment.Object{MediaType: desc.MediaType, Digest: desc.Digest, Data: data}.References()
	if err != nil {
		return err
	}
	if len(data) <= maxAtHand && img.sizeAtHand+len(data) <= maxAllAtHand {
		img.atHand[desc.Digest] = data
		img.sizeAtHand += len(data)
	}
	for _, child := range refs.Manifests {
		if !slices.Contains(img.grant.Objects, child.Digest) {
			img.unread[child.Digest] = child
			continue
		}
		if err := img.walk(ctx, store, child); err != nil {
			return err
		}
	}
	if refs.Config != nil {
		if slices.Contains(img.grant.Objects, refs.Config.Digest) {
			img.configs[refs.Config.Digest] = *refs.Config
		} else {
			img.foreign[refs.Config.Digest] = *refs.Config // of an image that is pulled as it is
		}
	}
	for _, layer := range refs.Layers {
		if slices.Contains(img.grant.Injected, layer.Digest) {
			img.injected[layer.Digest] = layer
		} else {
			img.foreign[layer.Digest] = layer
		}
	}
	return nil
}

func readStored(ctx context.Context, store blobstore.Store, desc ocispec.Descriptor) ([]byte, error) {
	f, err := store.Open(ctx, desc.Digest)
	if err != nil {
		return nil, fmt.Errorf("read %s of an image that was promised: %w", desc.Digest, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	if err == nil && int64(len(data)) != desc.Size {
		err = errors.New("the store is damaged")
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: found %d of %d bytes: %w", desc.Digest, len(data), desc.Size, err)
	}
	return data, nil
}

// blob returns the descriptor of an upstream blob of the image.
func (img *image) blob(d digest.Digest) (ocispec.Descriptor, bool) {
	if desc, ok := img.foreign[d]; ok {
		return desc, true
	}
	img.mu.Lock()
	defer img.mu.Unlock()
	desc, ok := img.extra[d]
	return desc, ok
}

// digests are those of what was read when the image was made, and of the blobs
// that it names.
func (img *image) digests() []digest.Digest {
	var all []digest.Digest
	for _, known := range []map[digest.Digest]ocispec.Descriptor{img.manifests, img.configs, img.injected, img.foreign} {
		all = slices.AppendSeq(all, maps.Keys(known))
	}
	return all
}

// expand reads manifests of an unchanged index that were not read when the
// token was minted: the named one, or all of them when d names a blob that one
// of them may hold. It returns the manifest, which then is in the store, if d
// is one of this image.
func (img *image) expand(ctx context.Context, store blobstore.Store, src augment.Source, d digest.Digest) (ocispec.Descriptor, bool, error) {
	img.mu.Lock()
	desc, ok := img.later[d]
	todo := maps.Clone(img.unread)
	img.mu.Unlock()
	if ok {
		return desc, true, nil
	}
	if desc, ok := todo[d]; ok {
		todo = map[digest.Digest]ocispec.Descriptor{d: desc}
	} else if len(todo) > maxUnread {
		return ocispec.Descriptor{}, false, nil
	}
	for _, desc := range todo {
		if err := img.read(ctx, store, src, desc); err != nil {
			return ocispec.Descriptor{}, false, err
		}
	}
	img.mu.Lock()
	defer img.mu.Unlock()
	desc, ok = img.later[d]
	return desc, ok, nil
}

func (img *image) read(ctx context.Context, store blobstore.Store, src augment.Source, desc ocispec.Descriptor) error {
	o, err := src.Manifest(ctx, desc.Digest.String())
	if err != nil {
		return err
	}
	refs, err := o.References()
	if err != nil {
		return err
	}
	if err := store.Put(ctx, o.Digest, bytes.NewReader(o.Data)); err != nil {
		return err
	}
	img.mu.Lock()
	defer img.mu.Unlock()
	delete(img.unread, desc.Digest)
	desc.Size = int64(len(o.Data)) // the index may be wrong, the digest is not
	img.later[desc.Digest] = desc
	for _, child := range refs.Manifests {
		if _, read := img.later[child.Digest]; !read {
			img.unread[child.Digest] = child
		}
	}
	if refs.Config != nil {
		img.extra[refs.Config.Digest] = *refs.Config
	}
	for _, layer := range refs.Layers {
		img.extra[layer.Digest] = layer
	}
	return nil
}
