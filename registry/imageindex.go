package registry

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/internal/fairqueue"
)

// imageIndex finds the images of a repository under a recipe that have a digest. It
// keeps one index of all records of the repository, and looks at the directory again
// where it knows of no image. It is safe for concurrent use.
type imageIndex struct {
	grants  Grants
	records Records
	turns   *fairqueue.Queue // for each group: one reads its records at a time
	settled time.Duration    // mtimeSettled

	// What all indexes cost at most, in bytes, and what one may cost.
	max, maxOne int64
	chunk       int // recordsAtATime

	mu     sync.Mutex
	groups *simplelru.LRU[string, *groupIndex]
	cost   int64
}

const (
	// indexesCost and indexCost bound the indexes in memory. An image of ten layers
	// costs 300 bytes, so a repository of 90,000 images fits.
	indexesCost = 64 << 20
	indexCost   = 40 << 20
	maxGroups   = 1 << 14

	// readsAtATime hide how long a bucket takes for each.
	readsAtATime = 16

	// recordsAtATime are read before the index is kept, so that a reader that runs out
	// of time leaves its work to the next one.
	recordsAtATime = 1 << 13

	// mtimeSettled is how long after a modification time was first seen a directory
	// is read for the last time. File systems count such times in steps of up to two
	// seconds, so a record that is written within the same step does not change it. By
	// this server's clock, because the time itself may be that of a file server.
	mtimeSettled = 3 * time.Second
)

func newImageIndex(grants Grants, records Records) *imageIndex {
	x := &imageIndex{
		grants: grants, records: records, settled: mtimeSettled, max: indexesCost, maxOne: indexCost, chunk: recordsAtATime,
		turns: fairqueue.New(fairqueue.Options{Slots: 1, Waiting: 4096, AllWaiting: 1 << 14}),
	}
	// It fails for sizes below 1 only. The callback runs with the lock held.
	x.groups, _ = simplelru.NewLRU(maxGroups, func(group string, g *groupIndex) { x.cost -= g.cost(group) })
	return x
}

// find returns the roots of the images that may have the digest, the image whose
// root it is first. It reads only records that it does not know, and nothing but the
// directory's modification time if no record was written since.
func (x *imageIndex) find(ctx context.Context, q namedRepository, d digest.Digest) ([]digest.Digest, error) {
	want, ok := prefixOf(d)
	if !ok {
		return nil, nil
	}
	if roots := x.get(q.group).match(want, d); len(roots) > 0 {
		return roots, nil
	}
	// One after the other, and not all with the result of one: a record may have been
	// written since another caller has read the directory.
	leave, err := x.turns.Enter(ctx, q.group, budget.Party(ctx), "")
	if err != nil {
		return nil, busy(err)
	}
	defer leave()
	old := x.get(q.group)
	if roots := old.match(want, d); len(roots) > 0 {
		return roots, nil
	}
	now, names, err := x.list(ctx, q, old, d)
	if err != nil || now == nil {
		return nil, err
	}
	held := int64(len(names))*nameCost + int64(min(len(names), x.chunk))*recordCost + now.cost(q.group)
	release, err := budget.From(ctx).Hold(budget.Memory, held)
	if err != nil {
		return nil, err
	}
	defer release()
	if now.tooLarge {
		return x.scan(ctx, q, now, names, want, d)
	}
	return x.update(ctx, q, now, names, want, d)
}

// list reads the directory, unless it is certain that nothing was written since old
// was read, and that old would have the digest. It returns old's index with the new
// times, and the names; nil if there is nothing that old does not have.
func (x *imageIndex) list(ctx context.Context, q namedRepository, old *groupIndex, d digest.Digest) (now *groupIndex, names []string, err error) {
	var since time.Time
	if old.read.Sub(old.seen) >= x.settled {
		since = old.modified
	}
	next := *old
	next.read = time.Now()
	names, modified, err := x.records.Records(ctx, q.imagesDir(), since)
	if err == nil && !modified.IsZero() && modified.Equal(since) && old.tooLarge && !old.lacks(d) {
		names, modified, err = x.records.Records(ctx, q.imagesDir(), time.Time{})
	}
	if err != nil || modified.IsZero() || modified.Equal(since) && len(names) == 0 {
		return nil, nil, err
	}
	if !modified.Equal(since) {
		next.absent = nil
	}
	if !modified.Equal(old.modified) {
		next.modified, next.seen = modified, time.Now()
	}
	return &next, names, nil
}

// update reads the records that the index does not have, adds them, and returns the
// roots that match.
func (x *imageIndex) update(ctx context.Context, q namedRepository, g *groupIndex, names []string, want uint64, d digest.Digest) ([]digest.Digest, error) {
	listed := *g
	names = slices.DeleteFunc(names, g.has)
	for len(names) > 0 {
		part := names[:min(len(names), x.chunk)]
		names = names[len(part):]
		more, missing, err := x.readAll(ctx, q, part)
		g = g.with(more)
		if err != nil || len(names) > 0 || missing {
			g.read, g.modified = time.Time{}, time.Time{} // not all of the directory
		} else {
			g.read, g.seen, g.modified = listed.read, listed.seen, listed.modified
		}
		if g.cost(q.group) > x.maxOne {
			g = &groupIndex{tooLarge: true, read: listed.read, seen: listed.seen, modified: listed.modified}
			x.put(q.group, g)
			all, _, err := x.records.Records(ctx, q.imagesDir(), time.Time{})
			if err != nil {
				return nil, err
			}
			return x.scan(ctx, q, g, all, want, d)
		}
		x.put(q.group, g)
		if err != nil {
			return nil, err
		}
	}
	x.put(q.group, g)
	return g.match(want, d), nil
}

// scan reads all records of an index that is too large to be kept, and remembers that
// none has the digest.
func (x *imageIndex) scan(ctx context.Context, q namedRepository, g *groupIndex, names []string, want uint64, d digest.Digest) ([]digest.Digest, error) {
	missing := false
	for len(names) > 0 {
		part := names[:min(len(names), x.chunk)]
		names = names[len(part):]
		more, lacking, err := x.readAll(ctx, q, part)
		if roots := (&groupIndex{}).with(more).match(want, d); len(roots) > 0 || err != nil {
			return roots, err
		}
		missing = missing || lacking
	}
	if !missing {
		x.put(q.group, g.without(d))
	}
	return nil, nil
}

// readAll returns the indexes in records. A record that cannot be read is left out;
// missing says that one is not stored yet, because a record may be listed before. With an
// error it returns what was read before.
func (x *imageIndex) readAll(ctx context.Context, q namedRepository, names []string) (read []recordIndex, missing bool, err error) {
	found := make([]recordIndex, len(names))
	absent := make([]bool, len(names))
	g, limited := errgroup.WithContext(ctx)
	g.SetLimit(readsAtATime)
	for i, name := range names {
		g.Go(func() (err error) {
			if err = limited.Err(); err == nil {
				found[i], absent[i], err = x.read(limited, q, name)
			}
			return err
		})
	}
	err = g.Wait()
	for i := range names {
		missing = missing || absent[i]
		if found[i].root != "" {
			read = append(read, found[i])
		}
	}
	return read, missing, err
}

// read returns the index in a record, a zero one if it cannot be read.
func (x *imageIndex) read(ctx context.Context, q namedRepository, name string) (index recordIndex, missing bool, err error) {
	algorithm, encoded, _ := strings.Cut(name, "-")
	root := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), encoded)
	data, err := x.grants.Index(ctx, q.imagesDir()+"/"+name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && root.Validate() != nil {
		return recordIndex{}, errors.Is(err, blobstore.ErrNotFound), nil
	}
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return recordIndex{}, false, err
	}
	return recordIndex{root, data}, false, nil
}

// get returns the index of a group, an empty one if there is none.
func (x *imageIndex) get(group string) *groupIndex {
	x.mu.Lock()
	defer x.mu.Unlock()
	if g, ok := x.groups.Get(group); ok {
		return g
	}
	return &groupIndex{}
}

// put keeps the index in place of the group's previous one.
func (x *imageIndex) put(group string, g *groupIndex) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.groups.Remove(group)
	x.groups.Add(group, g)
	for x.cost += g.cost(group); x.cost > x.max; {
		x.groups.RemoveOldest()
	}
}

// indexOf returns the index of an image, for its record: of all digests that a client
// can learn from the image or from its provenance.
func indexOf(ctx context.Context, img *image) ([]byte, error) {
	var digests []uint64
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
