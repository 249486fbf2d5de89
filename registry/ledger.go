package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/internal/flight"
	"github.com/waveproxy/waveproxy/internal/sizedlru"
)

// ledger is the book of what was advertised under the names of recipes. It is
// safe for concurrent use.
//
// Before an image is advertised, every digest that a client can learn from it
// gets a record. The root's record is the image's grant; every other record is a
// pointer: a grant with only Image and the root's digest set. So every server
// that shares the store finds any digest with two small reads, and a digest that
// was not advertised costs one.
type ledger struct {
	grants Grants
	store  blobstore.Store

	// Copies of what the records say.
	images *sizedlru.Cache[ownedDigest, *image]        // by root
	roots  *sizedlru.Cache[ownedDigest, digest.Digest] // of the images that digests belong to
	loads  singleflight.Group                          // by namedRequest.key
}

// ownedDigest is a digest as one repository under one recipe knows it.
type ownedDigest struct {
	group  string
	digest digest.Digest
}

const (
	maxImages  = 256
	maxDigests = 1 << 15
	// imagesCost and rootsCost bound what they cost, in bytes.
	imagesCost = 32 << 20
	rootsCost  = 16 << 20
	rootCost   = 240 // beside its strings

	// maxPointers bounds the way from a digest to its image. Servers that write at
	// the same time leave ways of more than one pointer.
	maxPointers = 8
	// maxRecords bounds the records that one image of a stranger makes us write. No
	// real one needs a third of it.
	maxRecords = 4096
	// recordWriters is how many records are written at a time: each waits for the
	// disk.
	recordWriters = 16
)

func newLedger(grants Grants, store blobstore.Store) *ledger {
	return &ledger{
		grants: grants, store: store,
		images: sizedlru.New[ownedDigest, *image](imagesCost, maxImages, 0),
		roots:  sizedlru.New[ownedDigest, digest.Digest](rootsCost, maxDigests, 0),
	}
}

// imageOf returns the image to which an advertised digest belongs, whichever
// server advertised it. The image is nil for any other digest. Errors are those
// of the records and the store.
func (l *ledger) imageOf(ctx context.Context, q namedRequest, d digest.Digest) (*image, error) {
	if root, ok := l.roots.Get(ownedDigest{q.group, d}); ok {
		if img, ok := l.images.Get(ownedDigest{q.group, root}); ok {
			return img, nil
		}
	}
	return l.load(ctx, q, d)
}

// imageRootedAt returns the image whose root is the digest, or nil. Other images
// may have the digest inside: the index to which the manifest of another tag
// belongs.
func (l *ledger) imageRootedAt(ctx context.Context, q namedRequest, root digest.Digest) (*image, error) {
	if img, ok := l.images.Get(ownedDigest{q.group, root}); ok {
		return img, nil
	}
	img, err := l.load(ctx, q, root)
	if err == nil && img != nil && img.grant.Root.Digest != root {
		img = nil
	}
	return img, err
}

// load is fromRecords, once for all concurrent callers.
func (l *ledger) load(ctx context.Context, q namedRequest, d digest.Digest) (*image, error) {
	return flight.Do(ctx, &l.loads, q.key(d.String()), loadTimeout, func(ctx context.Context) (*image, error) {
		return l.fromRecords(ctx, q, d)
	})
}

// fromRecords follows the pointers from a digest to its image.
func (l *ledger) fromRecords(ctx context.Context, q namedRequest, d digest.Digest) (*image, error) {
	root := d
	for range maxPointers {
		grant, _, err := l.grants.Get(ctx, q.record(root))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if grant.Root.Digest != root {
			root = grant.Root.Digest
			continue
		}
		img, ok := l.images.Get(ownedDigest{q.group, root})
		if !ok {
			if img, err = loadImage(ctx, l.store, grant); err != nil {
				return nil, err
			}
			l.cacheImage(q, img)
		}
		l.addRoot(q, d, root)
		return img, nil
	}
	return nil, fmt.Errorf("look up %s of %s: %d records lead to no image", d, q.ref, maxPointers)
}

// cacheImage keeps the image in memory, unless it is too large.
func (l *ledger) cacheImage(q namedRequest, img *image) {
	root := img.grant.Root.Digest
	key := ownedDigest{q.group, root}
	img.late.grew = func() { l.images.Reweigh(key, img.totalCost()) }
	img.shared = l.images.Add(key, img, img.totalCost())
	for _, d := range img.digests() {
		l.addRoot(q, d, root)
	}
}

// addRoot remembers to which image a digest belongs. Nearly all digests are in an
// image that is in memory, too, with this root.
func (l *ledger) addRoot(q namedRequest, d, root digest.Digest) {
	l.roots.Add(ownedDigest{q.group, d}, root, rootCost+textCost(q.group)+textCost(string(d))+textCost(string(root)))
}

// advertise records all digests of the image, so that this server and all others
// that share the store serve them, and returns the image. A client must not learn
// a digest before. An image that is recorded already, maybe for another tag or by
// an older version, keeps its grant. Errors are those of the records and the
// store, or a refusal.
func (l *ledger) advertise(ctx context.Context, q namedRequest, grant auth.Grant) (*image, error) {
	img, err := loadImage(ctx, l.store, &grant)
	if err != nil {
		return nil, err
	}
	digests := img.digests()
	if err := checkDigests(q, digests); err != nil {
		return nil, err
	}
	root := grant.Root.Digest
	recorded, err := l.recordRoot(ctx, q, grant)
	if err != nil {
		return nil, err
	}
	if recorded.Root.Digest == root {
		if img, err = loadImage(ctx, l.store, recorded); err != nil {
			return nil, err
		}
	}
	// After the root's, because a crash in between would leave pointers to nothing.
	if err := l.writePointers(ctx, q, root, digests); err != nil {
		return nil, err
	}
	l.cacheImage(q, img)
	return img, nil
}

// checkDigests refuses an image that would take too many records, or records with
// bad names.
func checkDigests(q namedRequest, digests []digest.Digest) error {
	if len(digests) > maxRecords {
		return front.Refuse(http.StatusBadRequest, front.Unsupported, "%s has %d manifests, configs and layers; under a recipe this server takes %d", q.ref, len(digests), maxRecords)
	}
	for _, d := range digests {
		if err := d.Validate(); err != nil {
			return front.Refuse(http.StatusBadRequest, front.ManifestInvalid, "%s has a config or layer with the digest %.100q: %v", q.ref, d, err)
		}
	}
	return nil
}

// recordRoot writes the record of the image's root, unless there is one, and
// returns the record that is there then. It may be another server's.
func (l *ledger) recordRoot(ctx context.Context, q namedRequest, grant auth.Grant) (*auth.Grant, error) {
	root := grant.Root.Digest
	recorded, _, err := l.grants.Get(ctx, q.record(root))
	if err == nil && recorded.Root.Digest == root || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return recorded, err
	}
	if err := l.grants.Put(ctx, q.record(root), grant); err != nil {
		return nil, err
	}
	recorded, _, err = l.grants.Get(ctx, q.record(root))
	return recorded, err
}

// writePointers writes the records of the image's digests that have none.
func (l *ledger) writePointers(ctx context.Context, q namedRequest, root digest.Digest, digests []digest.Digest) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(recordWriters)
	for _, d := range digests {
		g.Go(func() error {
			if _, _, err := l.grants.Get(ctx, q.record(d)); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return l.grants.Put(ctx, q.record(d), auth.Grant{Image: q.ref.Name(), Root: ocispec.Descriptor{Digest: root}})
		})
	}
	return g.Wait()
}
