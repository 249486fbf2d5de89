package registry

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/internal/sizedlru"
)

// imageIndex finds the images of a repository under a recipe that have a digest. It
// knows the names of the records and the index in each of them, and looks at the
// directory again where it knows of no image. It is safe for concurrent use.
type imageIndex struct {
	grants  Grants
	records Records

	settled  time.Duration                           // mtimeSettled
	listings *sizedlru.Cache[string, *listing]       // by group
	indexes  *sizedlru.Cache[indexKey, imageDigests] // what is not there is read again
}

// listing is what a directory of records had when it was last read. It is
// immutable.
type listing struct {
	modified time.Time // of the directory
	seen     time.Time // when modified had been seen first
	read     time.Time // when the last look began
	names    []string  // of the records, sorted
}

type indexKey struct{ group, name string }

// imageDigests is the index of one image: the first bytes of its digests, sorted. The
// image itself tells whether a digest is really its own. It is nil for a record that
// cannot be read.
type imageDigests []uint64

const (
	// listingsCost and indexesCost bound what the index keeps, in bytes.
	listingsCost = 32 << 20
	indexesCost  = 24 << 20
	maxListings  = 1 << 14
	maxIndexes   = 1 << 17
	entryCost    = 200 // beside strings and slices

	// mtimeSettled is how long after a modification time was first seen a directory
	// is read for the last time. File systems count such times in steps of up to two
	// seconds, so a record that is written within the same step does not change it. By
	// this server's clock, because the time itself may be that of a file server.
	mtimeSettled = 3 * time.Second
)

func newImageIndex(grants Grants, records Records) *imageIndex {
	return &imageIndex{
		grants: grants, records: records, settled: mtimeSettled,
		listings: sizedlru.New[string, *listing](listingsCost, maxListings, 0),
		indexes:  sizedlru.New[indexKey, imageDigests](indexesCost, maxIndexes, 0),
	}
}

// find returns the roots of the images that may have the digest, the image whose
// root it is first. It reads only records that it does not know, and nothing but the
// directory's modification time if no record was written since.
func (x *imageIndex) find(ctx context.Context, q namedRepository, d digest.Digest) ([]digest.Digest, error) {
	old, known := x.listings.Get(q.group)
	if known {
		if roots, err := x.match(ctx, q, old.names, d); err != nil || len(roots) > 0 {
			return roots, err
		}
	}
	now, changed, err := x.list(ctx, q, old)
	if err != nil || !changed {
		return nil, err
	}
	return x.match(ctx, q, now.names, d)
}

// list reads the directory, unless it is certain that nothing was written since old,
// which may be nil, was read.
func (x *imageIndex) list(ctx context.Context, q namedRepository, old *listing) (now *listing, changed bool, err error) {
	var since time.Time
	if old != nil && old.read.Sub(old.seen) >= x.settled {
		since = old.modified
	}
	begun := time.Now()
	names, modified, err := x.records.Records(ctx, q.imagesDir(), since)
	if err != nil || modified.IsZero() || modified.Equal(since) {
		return old, false, err
	}
	slices.Sort(names)
	now = &listing{modified: modified, seen: time.Now(), read: begun, names: names}
	if old != nil && old.modified.Equal(modified) {
		now.seen = old.seen
	}
	cost := int64(entryCost + len(q.group))
	for _, name := range names {
		cost += int64(len(name)) + 32
		// A record that could not be read may have been written anew.
		key := indexKey{q.group, name}
		if digests, ok := x.indexes.Peek(key); ok && digests == nil {
			x.indexes.Remove(key)
		}
	}
	x.listings.Add(q.group, now, cost)
	return now, true, nil
}

// match returns the roots of the records whose index has the digest.
func (x *imageIndex) match(ctx context.Context, q namedRepository, names []string, d digest.Digest) (roots []digest.Digest, err error) {
	want, ok := prefixOf(d)
	if !ok {
		return nil, nil
	}
	for _, name := range names {
		digests, err := x.read(ctx, q, name)
		if err != nil {
			return nil, err
		}
		if _, found := slices.BinarySearch(digests, want); !found {
			continue
		}
		algorithm, encoded, _ := strings.Cut(name, "-")
		root := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), encoded)
		roots = append(roots, root)
		if root == d {
			roots[0], roots[len(roots)-1] = roots[len(roots)-1], roots[0]
		}
	}
	return roots, nil
}

// read returns the index in a record.
func (x *imageIndex) read(ctx context.Context, q namedRepository, name string) (imageDigests, error) {
	key := indexKey{q.group, name}
	if digests, ok := x.indexes.Get(key); ok {
		return digests, nil
	}
	data, err := x.grants.Index(ctx, q.imagesDir()+"/"+name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var digests imageDigests
	for ; len(data) >= 8; data = data[8:] {
		digests = append(digests, binary.BigEndian.Uint64(data))
	}
	x.indexes.Add(key, digests, int64(entryCost+len(q.group)+len(name)+8*cap(digests)))
	return digests, nil
}

// indexOf returns the index of an image, for its record: of all digests that a client
// can learn from the image or from its provenance.
func indexOf(ctx context.Context, img *image) ([]byte, error) {
	var digests imageDigests
	known := img.digests()
	if img.hasProvenance() {
		provenance, err := subjectsOf(ctx, img)
		if err != nil {
			return nil, err
		}
		for _, p := range provenance {
			digests = append(digests, p.prefix)
		}
		known = append(known, ocispec.DescriptorEmptyJSON.Digest)
	}
	for _, d := range known {
		if prefix, ok := prefixOf(d); ok {
			digests = append(digests, prefix)
		}
	}
	slices.Sort(digests)
	var data []byte
	for _, prefix := range slices.Compact(digests) {
		data = binary.BigEndian.AppendUint64(data, prefix)
	}
	return data, nil
}

// prefixOf returns the first bytes of a digest.
func prefixOf(d digest.Digest) (uint64, bool) {
	var prefix [8]byte
	_, encoded, _ := strings.Cut(d.String(), ":")
	if len(encoded) < 2*len(prefix) {
		return 0, false
	}
	_, err := hex.Decode(prefix[:], []byte(encoded[:2*len(prefix)]))
	return binary.BigEndian.Uint64(prefix[:]), err == nil
}
