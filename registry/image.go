package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/internal/fairqueue"
)

// image is what a grant gives access to: every digest reachable from its root,
// and where the bytes are. Nothing of it changes once it is loaded, except late,
// which has its own mutex.
type image struct {
	grant  *auth.Grant
	target auth.Target
	store  blobstore.Store // as the grant's record sees it

	manifests descriptors              // in the store
	small     map[digest.Digest][]byte // the bytes of the small manifests
	configs   descriptors              // in the store
	injected  descriptors              // layers in the store
	upstream  descriptors              // blobs at the upstream

	// grantKey returns the digest of the grant, which the first call computes.
	grantKey func() digest.Digest

	// verdict is what the policy says of the image, once it is judged (permit).
	judged  sync.Once
	verdict error

	late *late

	// used is when the collection was last told that the image is in use, in Unix seconds.
	used atomic.Int64

	cost   int64 // in bytes, without late's
	shared bool  // it is in memory for all requests
}

// imageCost is what an image costs in bytes beside its grant and what is in its
// maps, which are not empty for long.
const imageCost = 4 << 10

// maxDocument bounds a manifest, index or config read into memory.
const maxDocument = 4 << 20

// maxSmall bounds a manifest that stays in memory, and maxAllSmall all of one
// image together. Nearly all manifests are smaller, and every node asks for them.
const (
	maxSmall    = 32 << 10
	maxAllSmall = 512 << 10
)

// loadTurns lets few images be loaded at a time, half of them for one client, because a
// large one that is not in memory is loaded for each request and takes a second of CPU.
var loadTurns = fairqueue.New(fairqueue.Options{
	Slots: max(4, 2*runtime.GOMAXPROCS(0)), PerClient: max(2, runtime.GOMAXPROCS(0)), Waiting: 4096, AllWaiting: 16384,
})

// loadImage walks the grant's image through the store, starting at its root.
// The result does not depend on how the image was computed, so images outlive
// restarts and upgrades. platforms are those of which a digest may lead to an
// image; none means all. Parts of the grant need not be stored yet.
func loadImage(ctx context.Context, store blobstore.Store, grant *auth.Grant, platforms only) (*image, error) {
	leave, err := loadTurns.Enter(ctx, "", budget.Party(ctx), "")
	if err != nil {
		return nil, busy(err)
	}
	defer leave()
	domain, path := splitName(grant.Image)
	img := &image{
		grant:     grant,
		target:    auth.Target{Identity: grant.Identity, Registry: domain, Repository: path},
		store:     blobstore.In(store, grant.Record),
		manifests: descriptors{},
		small:     map[digest.Digest][]byte{},
		configs:   descriptors{},
		injected:  descriptors{},
		upstream:  descriptors{},
		late:      newLate(),
		cost:      imageCost + grant.Cost(),
	}
	img.grantKey = sync.OnceValue(func() digest.Digest { return grantDigest(img) })
	img.late.only = platforms
	l := loader{store: blobstore.With(img.store, grant.Parts), image: img}
	defer l.release()
	if err := l.load(ctx, grant.Root); err != nil {
		return nil, fmt.Errorf("load image %s: %w", grant.Image, err)
	}
	return img, nil
}

// totalCost is what the image costs now, in bytes.
func (img *image) totalCost() int64 { return img.cost + img.late.size() }

// loader fills an image. While it does, what it has read is charged to the request
// that wants the image.
type loader struct {
	store     blobstore.Store
	image     *image
	sizeSmall int // of image.small, in bytes
	held      []func()
}

// decodingCost is how many bytes in memory a byte of a document costs at most
// while it is read.
const decodingCost = 4

// hold charges bytes to the request until the image is loaded.
func (l *loader) hold(ctx context.Context, n int64) (release func(), err error) {
	release, err = budget.From(ctx).Hold(budget.Memory, n)
	if err == nil {
		l.held = append(l.held, release)
	}
	return release, err
}

func (l *loader) release() {
	for _, release := range l.held {
		release()
	}
}

// load reads a manifest or index, and the manifests below it that the grant has.
func (l *loader) load(ctx context.Context, desc ocispec.Descriptor) error {
	img := l.image
	if _, seen := img.manifests[desc.Digest]; seen {
		return nil
	}
	img.cost += img.manifests.add(desc)
	decoded, err := l.hold(ctx, decodingCost*desc.Size)
	if err != nil {
		return err
	}
	data, err := readStored(ctx, l.store, desc)
	if err != nil {
		return err
	}
	refs, err := augment.Object{MediaType: desc.MediaType, Digest: desc.Digest, Data: data}.References(ctx)
	if err != nil {
		return err
	}
	if len(data) <= maxSmall && l.sizeSmall+len(data) <= maxAllSmall {
		img.small[desc.Digest] = bytes.Clone(data) // without the room that reading left
		img.cost += slotCost + textCost(string(data))
		l.sizeSmall += len(data)
	}
	l.keep(refs)
	decoded()
	if _, err := l.hold(ctx, slotCost*int64(len(refs.Manifests)+len(refs.Layers))); err != nil {
		return err
	}
	for _, child := range refs.Manifests {
		if slices.Contains(img.grant.Objects, child.Digest) {
			if err := l.load(ctx, child); err != nil {
				return err
			}
		}
	}
	return nil
}

// keep adds what a document names, all but the manifests that the grant has.
func (l *loader) keep(refs augment.References) {
	img := l.image
	for _, child := range refs.Manifests {
		if !slices.Contains(img.grant.Objects, child.Digest) {
			img.late.cost += img.late.addEntry(child)
		}
	}
	if refs.Config != nil {
		if slices.Contains(img.grant.Objects, refs.Config.Digest) {
			img.cost += img.configs.add(*refs.Config)
		} else {
			img.cost += img.upstream.add(*refs.Config) // of an image to which nothing was added
		}
	}
	for _, layer := range refs.Layers {
		if slices.Contains(img.grant.Injected, layer.Digest) {
			img.cost += img.injected.add(layer)
		} else {
			img.cost += img.upstream.add(layer)
		}
	}
}

func readStored(ctx context.Context, store blobstore.Store, desc ocispec.Descriptor) ([]byte, error) {
	f, err := store.Open(ctx, desc.Digest)
	if errors.Is(err, blobstore.ErrNotFound) {
		return nil, lostBlob(desc.Digest, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s, which was advertised: %w", desc.Digest, err)
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

// storedBlob returns the descriptor of a config or injected layer.
func (img *image) storedBlob(d digest.Digest) (ocispec.Descriptor, bool) {
	if desc, ok := img.injected.get(d); ok {
		return desc, true
	}
	return img.configs.get(d)
}

// upstreamBlob returns the descriptor of a blob of the image that the upstream
// has.
func (img *image) upstreamBlob(d digest.Digest) (ocispec.Descriptor, bool) {
	if desc, ok := img.upstream.get(d); ok {
		return desc, true
	}
	return img.late.blob(d)
}

// digests returns the digests of all manifests that were read when the image was
// made, and of the blobs that they name.
func (img *image) digests() []digest.Digest {
	var all []digest.Digest
	for _, known := range []descriptors{img.manifests, img.configs, img.injected, img.upstream} {
		all = slices.AppendSeq(all, maps.Keys(known))
	}
	return all
}

// names reports whether the digest is of a manifest or blob that the image names, late
// ones included, rather than of its provenance.
func (img *image) names(d digest.Digest) bool {
	for _, known := range []descriptors{img.manifests, img.configs, img.injected, img.upstream} {
		if _, ok := known[d]; ok {
			return true
		}
	}
	_, ok := img.late.blob(d)
	return ok
}

// leadsTo reports whether a client can learn the digest from the image or from its
// provenance.
func leadsTo(ctx context.Context, img *image, d digest.Digest) (bool, error) {
	if img.names(d) || d == ocispec.DescriptorEmptyJSON.Digest && img.hasProvenance() {
		return true, nil
	}
	_, ok, err := img.attestationWith(ctx, d)
	return ok, err
}

// pullName returns the part of the image name after the token.
func (img *image) pullName() string {
	if img.grant.Tag != "" {
		return auth.Redact(img.target.Repository) + ":" + img.grant.Tag
	}
	return auth.Redact(img.target.Repository) + "@" + img.grant.Root.Digest.String()
}

// storeFault returns the error for bytes that the image promises and the store
// cannot give. It is a failure of this server, never a 404.
func storeFault(img *image, d digest.Digest, err error) error {
	if errors.Is(err, blobstore.ErrNotFound) || errors.Is(err, blobstore.ErrLost) {
		err = lostBlob(d, err)
	}
	return fmt.Errorf("serve %s: %w", img.pullName(), err)
}

// lostBlob returns the error for a blob of ours that is gone or damaged. Its text is
// for clients, because a person can have the blob made again.
func lostBlob(d digest.Digest, err error) error {
	return fmt.Errorf("%w: %w", front.Refuse(http.StatusInternalServerError, front.Unknown,
		"the storage of this server has lost %s, or its bytes are damaged: requesting the same image again makes it anew", d), err)
}
