package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"reflect"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/internal/flight"
	"github.com/waveproxy/waveproxy/internal/sizedlru"
)

// ledger is the book of what was advertised under the names of recipes. It is
// safe for concurrent use.
//
// Before an image is advertised it gets one record: its grant, and the index of
// all digests that a client can learn from it. So every server that shares the store
// finds any digest, and a digest that was not advertised costs one look at the
// directory of the repository's records.
//
// Older versions wrote a record for each digest. The root's was the image's grant;
// every other one was a pointer: a grant with only Image and the root's digest set.
// These are still read.
type ledger struct {
	grants Grants
	store  blobstore.Store
	index  *imageIndex

	// Copies of what the records say.
	images *sizedlru.Cache[ownedDigest, *image]        // by root
	roots  *sizedlru.Cache[ownedDigest, digest.Digest] // of the images that digests belong to
	loads  flight.Calls                                // by namedRepository.memoryKey
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

	// maxPointers bounds the records read from a digest to its root. Older versions
	// that wrote at the same time chained pointers.
	maxPointers = 8
	// maxAdvertised bounds the digests that the record of one image of a stranger
	// has. No real one needs a third of it.
	maxAdvertised = 4096
)

func newLedger(grants Grants, records Records, store blobstore.Store) *ledger {
	return &ledger{
		grants: grants, store: store, index: newImageIndex(grants, records),
		images: sizedlru.New[ownedDigest, *image](imagesCost, maxImages, 0),
		roots:  sizedlru.New[ownedDigest, digest.Digest](rootsCost, maxDigests, 0),
	}
}

// imageOf returns the image to which an advertised digest belongs, whichever
// server advertised it. The image is nil for any other digest. Errors come from the
// records and the store.
func (l *ledger) imageOf(ctx context.Context, q namedRepository, d digest.Digest) (*image, error) {
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
func (l *ledger) imageRootedAt(ctx context.Context, q namedRepository, root digest.Digest) (*image, error) {
	if img, ok := l.images.Get(ownedDigest{q.group, root}); ok {
		return img, nil
	}
	return flight.Do(ctx, &l.loads, "root "+q.memoryKey(root.String()), loadTimeout, func(ctx context.Context) (*image, error) {
		return l.rootedAt(ctx, q, root)
	})
}

// load is fromRecords, once for all concurrent callers.
func (l *ledger) load(ctx context.Context, q namedRepository, d digest.Digest) (*image, error) {
	return flight.Do(ctx, &l.loads, q.memoryKey(d.String()), loadTimeout, func(ctx context.Context) (*image, error) {
		return l.fromRecords(ctx, q, d)
	})
}

// maxMisses bounds the images that are looked at in vain for one digest. The index has the
// first eight bytes of digests, which are the same by chance for none, and by a client's
// intention for as many images as share a blob.
const maxMisses = 8

// fromRecords finds the image of a digest in the records. An image that cannot be
// loaded is an error only if no other one has the digest.
func (l *ledger) fromRecords(ctx context.Context, q namedRepository, d digest.Digest) (*image, error) {
	roots, failed := l.index.find(ctx, q, d)
	misses := 0
	for _, root := range roots {
		img, err := l.rootedAt(ctx, q, root)
		found := false
		if err == nil && img != nil {
			found, err = leadsTo(ctx, img, d)
		}
		if err != nil {
			failed = err
			continue
		}
		if found {
			l.addRoot(q, d, root)
			return img, nil
		}
		if img != nil {
			misses++
		}
		if misses == maxMisses {
			break
		}
	}
	img, err := l.fromPointers(ctx, q, d)
	if img == nil && err == nil {
		err = failed
	}
	return img, err
}

// rootedAt is imageRootedAt, from the records.
func (l *ledger) rootedAt(ctx context.Context, q namedRepository, root digest.Digest) (*image, error) {
	if img, ok := l.images.Get(ownedDigest{q.group, root}); ok {
		return img, nil
	}
	grant, err := recordedGrant(ctx, l.grants, q, root)
	if err != nil || grant == nil {
		return nil, err
	}
	img, err := loadImage(ctx, l.store, grant, nil)
	if err == nil {
		l.cacheImage(q, img)
	}
	return img, err
}

// recordedGrant returns the grant of the image with a root, from its record or from an
// older version's, or nil.
func recordedGrant(ctx context.Context, grants Grants, q namedRepository, root digest.Digest) (*auth.Grant, error) {
	for _, name := range []string{q.imageRecord(root), q.olderRecord(root)} {
		grant, _, err := grants.Get(ctx, name)
		if err == nil && grant.Root.Digest == root {
			return grant, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return nil, nil
}

// fromPointers follows the pointers of older versions from a digest to its image.
func (l *ledger) fromPointers(ctx context.Context, q namedRepository, d digest.Digest) (*image, error) {
	root := d
	for range maxPointers {
		grant, _, err := l.grants.Get(ctx, q.olderRecord(root))
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
		img, err := l.rootedAt(ctx, q, root)
		if err == nil && img != nil {
			l.addRoot(q, d, root)
		}
		return img, err
	}
	return nil, fmt.Errorf("look up %s of %s: %d records lead to no image", d, q.ref, maxPointers)
}

// cacheImage keeps the image in memory, unless it is too large.
func (l *ledger) cacheImage(q namedRepository, img *image) {
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
func (l *ledger) addRoot(q namedRepository, d, root digest.Digest) {
	l.roots.Add(ownedDigest{q.group, d}, root, rootCost+textCost(q.group)+textCost(string(d))+textCost(string(root)))
}

// advertise records the image, so that this server and all others that share the
// store serve its digests, and returns it. A client must not learn a digest before
// its record exists.
// An image that is recorded already, maybe for another tag or by an older version,
// keeps its grant. Errors are those of the records and the store, or a refusal.
func (l *ledger) advertise(ctx context.Context, q namedRepository, grant auth.Grant) (*image, error) {
	img, err := loadImage(ctx, l.store, &grant, nil)
	if err != nil {
		return nil, err
	}
	if err := checkDigests(q, img.digests()); err != nil {
		return nil, err
	}
	if img, err = l.record(ctx, q, img); err != nil {
		return nil, err
	}
	l.cacheImage(q, img)
	return img, nil
}

// checkDigests refuses an image whose record would be too large, or would have bad
// digests.
func checkDigests(q namedRepository, digests []digest.Digest) error {
	if len(digests) > maxAdvertised {
		return front.Refuse(http.StatusBadRequest, front.Unsupported, "%s has %d manifests, configs and layers; under a recipe this server takes %d", q.ref, len(digests), maxAdvertised)
	}
	for _, d := range digests {
		if err := d.Validate(); err != nil {
			return front.Refuse(http.StatusBadRequest, front.ManifestInvalid, "%s has a config or layer with the digest %.100q: %v", q.ref, d, err)
		}
	}
	return nil
}

// record writes the image's record unless there is one, and returns the image of the
// record that is there then. Its grant may be another server's, or an older
// version's.
func (l *ledger) record(ctx context.Context, q namedRepository, img *image) (*image, error) {
	root := img.grant.Root.Digest
	name := q.imageRecord(root)
	for range 2 {
		recorded, _, err := l.grants.Get(ctx, name)
		if err == nil && recorded.Root.Digest == root {
			if err := repair(ctx, l.grants, l.store, recorded, img); err != nil {
				return nil, err
			}
			return withGrant(ctx, l.store, img, recorded)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		older, err := recordedGrant(ctx, l.grants, q, root)
		if err != nil {
			return nil, err
		}
		if older != nil {
			if img, err = withGrant(ctx, l.store, img, older); err != nil {
				return nil, err
			}
		}
		index, err := indexOf(ctx, img)
		if err != nil {
			return nil, err
		}
		if err := l.grants.PutIndexed(ctx, name, *img.grant, index); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("record %s of %s: the record is gone as soon as it is written", root, q.ref)
}

// repair stores the parts of a recorded image again if one is gone or damaged.
func repair(ctx context.Context, grants Grants, store blobstore.Store, recorded *auth.Grant, img *image) error {
	for _, p := range img.grant.Parts {
		if blobstore.In(store, recorded.Record).Verify(ctx, p.Digest) != nil {
			again := *recorded
			again.Parts = img.grant.Parts
			index, err := indexOf(ctx, img)
			if err != nil {
				return err
			}
			return grants.PutIndexed(ctx, recorded.Record, again, index)
		}
	}
	return nil
}

// withGrant returns the image with the grant of its record, loaded anew if the grant is
// another one. An image that was just made, which only its maker has, gets the record.
func withGrant(ctx context.Context, store blobstore.Store, img *image, grant *auth.Grant) (*image, error) {
	if reflect.DeepEqual(img.grant, grant) {
		return img, nil
	}
	made := *img.grant
	made.Record, made.Parts = grant.Record, nil
	if img.grant.Record == "" && reflect.DeepEqual(&made, grant) {
		img.grant, img.store = grant, blobstore.In(store, grant.Record)
		return img, nil
	}
	return loadImage(ctx, store, grant, nil)
}
