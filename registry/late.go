package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/upstream"
)

// late is the part of a token's image that was not read when the image was made.
// Under a recipe such a manifest is an image of its own instead (passThrough). An
// index to which nothing was added stays as the upstream has it, with entries that
// are no images. If no platform was asked for, a client may ask for any of its
// manifests, which is read then. late is safe for concurrent use once the image is
// loaded.
type late struct {
	mu     sync.Mutex
	unread map[digest.Digest]unread // manifests that have not been read
	read   descriptors              // manifests that have been read since, in the store
	blobs  descriptors              // blobs at the upstream that these manifests name
	rests  map[digest.Digest]rest
	cost   int64 // of all four, in bytes

	only only // whose images may be read
	// grew is called when cost has changed.
	grew func()
	now  func() time.Time
}

// rest keeps unknown blobs from having a manifest read again, after an error.
type rest struct {
	until time.Time
	err   error // nil if the upstream has refused: then the blob is not the image's
}

// unread is an entry of an index.
type unread struct {
	kept
	refused error // why its manifest is not served; nil if it may be
}

const (
	// maxUnread bounds how many manifests one unknown digest may cause to be read.
	maxUnread = 64
	// unreadRest is how long a manifest that was refused rests: blobs are free, and each
	// of them must not be an upstream request. After a transient failure it is the pause
	// of failures.
	unreadRest = time.Minute
	// lateWait is how long one unknown blob goes on after failures: an upstream that
	// does not answer costs a time-out for each manifest.
	lateWait = 30 * time.Second
	// maxLate bounds the manifests and blobs that an image gets after it was loaded.
	// Real images have some hundreds.
	maxLate = 4096
)

func newLate() *late {
	return &late{unread: map[digest.Digest]unread{}, read: descriptors{}, blobs: descriptors{}, rests: map[digest.Digest]rest{}, grew: func() {}, now: time.Now}
}

// addEntry adds an entry of an index, and returns what it costs in bytes. Its
// platform decides whether it may be read.
func (l *late) addEntry(desc ocispec.Descriptor) int64 {
	if _, ok := l.unread[desc.Digest]; ok {
		return 0
	}
	e := unread{kept: kept{desc.MediaType, desc.Size}}
	if desc.Platform != nil {
		e.refused = l.only.checkPlatform(*desc.Platform)
	}
	l.unread[desc.Digest] = e
	return slotCost + textCost(string(desc.Digest)) + textCost(desc.MediaType)
}

// has reports whether the digest is of a manifest that has not been read.
func (l *late) has(d digest.Digest) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.unread[d]
	return ok
}

// manifest returns the descriptor of a late manifest, which is in the store then.
// ok is false for any other digest. Errors are the source's and the store's, or a
// refusal.
func (l *late) manifest(ctx context.Context, store blobstore.Store, src augment.Documents, d digest.Digest) (desc ocispec.Descriptor, ok bool, err error) {
	l.mu.Lock()
	desc, read := l.read.get(d)
	entry, isUnread := l.unread[d]
	l.mu.Unlock()
	if read || !isUnread {
		return desc, read, nil
	}
	desc, err = l.fetch(ctx, store, src, d, entry)
	return desc, err == nil, err
}

// readFor reads the manifests that may name a blob that no known manifest names:
// all unread manifests that may be read, unless they are too many. A manifest that
// cannot be read is an error only if no other one names the blob: mirrors have some
// platforms only, and some of their documents may be damaged.
func (l *late) readFor(ctx context.Context, store blobstore.Store, src augment.Documents, blob digest.Digest) error {
	l.mu.Lock()
	_, isManifest := l.read[blob]
	entries, rests := maps.Clone(l.unread), maps.Clone(l.rests)
	l.mu.Unlock()
	if entry, ok := entries[blob]; ok {
		entries = map[digest.Digest]unread{blob: entry}
	}
	maps.DeleteFunc(entries, func(_ digest.Digest, e unread) bool { return e.refused != nil })
	if isManifest || len(entries) > maxUnread {
		return nil
	}
	var failed error
	begun := l.now()
	for d, entry := range entries {
		err := rests[d].err
		if !l.now().Before(rests[d].until) {
			_, err = l.fetch(ctx, store, src, d, entry)
			if ctx.Err() != nil {
				return err // says nothing of the upstream
			}
			if err == nil || l.passOver(d, err) {
				continue
			}
		}
		// A failure may hide the blob, a refusal does not.
		if failed == nil || isFinal(failed) && err != nil && !isFinal(err) {
			failed = err
		}
		if failed != nil && l.now().Sub(begun) >= lateWait {
			break
		}
	}
	if _, known := l.blob(blob); known {
		return nil
	}
	return failed
}

// passOver reports whether the manifest turned out to be one that is not served. After
// an error of the upstream, unknown blobs do not have it read for a while.
func (l *late) passOver(d digest.Digest, err error) (refused bool) {
	l.mu.Lock()
	old, again := l.rests[d]
	refused = l.unread[d].refused != nil
	next := rest{}
	switch {
	case refused:
	case isFinal(err):
		next.until = l.now().Add(unreadRest)
	case upstream.IsTransient(err) && !upstream.IsQueued(err):
		next = rest{l.now().Add(pauseAfter(err)), err}
	}
	if again {
		l.cost -= old.cost()
		delete(l.rests, d)
	}
	if !next.until.IsZero() {
		l.cost += next.cost()
		l.rests[d] = next
	}
	l.mu.Unlock()
	l.grew() // after the mutex is free, because it asks for the cost
	return refused
}

// cost is what a rest costs in memory, in bytes.
func (r rest) cost() int64 {
	if r.err == nil {
		return slotCost
	}
	return slotCost + failureCost + 2*textCost(r.err.Error()) // as in failures
}

// blob returns the descriptor of a blob that a late manifest names.
func (l *late) blob(d digest.Digest) (ocispec.Descriptor, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.blobs.get(d)
}

// fetch reads the manifest of an index's entry, stores it, and returns its
// descriptor.
func (l *late) fetch(ctx context.Context, store blobstore.Store, src augment.Documents, d digest.Digest, entry unread) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: entry.mediaType, Digest: d}
	if entry.refused != nil {
		return desc, entry.refused
	}
	o, err := src.Manifest(ctx, d.String())
	if err != nil {
		return desc, err
	}
	release, err := budget.From(ctx).Hold(budget.Memory, decodingCost*int64(len(o.Data)))
	if err != nil {
		return desc, err
	}
	defer release()
	desc.Size = int64(len(o.Data)) // the index may be wrong, the digest is not
	refs, err := o.References(ctx)
	if err != nil {
		return desc, err
	}
	if err := l.only.checkImage(ctx, src, refs); err != nil {
		return desc, l.refuse(d, err)
	}
	if err := store.Put(ctx, o.Digest, bytes.NewReader(o.Data)); err != nil {
		return desc, fmt.Errorf("store manifest %s: %w", o.Digest, err)
	}
	return desc, l.add(desc, refs)
}

// refuse keeps a final refusal, so that the manifest is not read again, and returns
// it. Any other error is only returned.
func (l *late) refuse(d digest.Digest, err error) error {
	if _, final := errors.AsType[*front.Refusal](err); !final {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.unread[d]; ok {
		e.refused = err
		l.unread[d] = e
	}
	return err
}

// errTooMany is one value for all entries, which are many.
var errTooMany = front.Refuse(http.StatusBadRequest, front.Unsupported,
	"the image has more than %d manifests, configs and layers for platforms that were not asked for: request an image for the platform", maxLate)

// add remembers a manifest that was read, and what it names.
func (l *late) add(desc ocispec.Descriptor, refs augment.References) error {
	l.mu.Lock()
	if len(l.unread)+len(l.read)+len(l.blobs)+len(refs.Manifests)+len(refs.Layers)+1 > maxLate {
		l.mu.Unlock()
		return l.refuse(desc.Digest, errTooMany)
	}
	defer l.grew() // after the mutex is free, because it asks for the cost
	defer l.mu.Unlock()
	delete(l.unread, desc.Digest)
	if old, ok := l.rests[desc.Digest]; ok {
		l.cost -= old.cost()
		delete(l.rests, desc.Digest)
	}
	l.cost += l.read.add(desc)
	for _, child := range refs.Manifests {
		if _, read := l.read[child.Digest]; !read {
			l.cost += l.addEntry(child)
		}
	}
	if refs.Config != nil {
		l.cost += l.blobs.add(*refs.Config)
	}
	for _, layer := range refs.Layers {
		l.cost += l.blobs.add(layer)
	}
	return nil
}

// size returns the cost in bytes.
func (l *late) size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cost
}
