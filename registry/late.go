package registry

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/blobstore"
)

// late is the part of an image that was not read when the image was made. An
// index to which nothing was added stays as the upstream has it, with entries for
// platforms that were not asked for. Their manifests are read when a client asks
// for them. late is safe for concurrent use once the image is loaded.
type late struct {
	mu     sync.Mutex
	unread map[digest.Digest]ocispec.Descriptor // manifests that have not been read
	read   map[digest.Digest]ocispec.Descriptor // manifests that have been read since, in the store
	blobs  map[digest.Digest]ocispec.Descriptor // blobs at the upstream that these manifests name
}

// maxUnread bounds how many manifests one unknown digest may cause to be read.
const maxUnread = 64

func newLate() *late {
	return &late{
		unread: map[digest.Digest]ocispec.Descriptor{},
		read:   map[digest.Digest]ocispec.Descriptor{},
		blobs:  map[digest.Digest]ocispec.Descriptor{},
	}
}

// manifest returns the descriptor of a late manifest, which is in the store then.
// ok is false for any other digest. Errors are the source's and the store's.
func (l *late) manifest(ctx context.Context, store blobstore.Store, src augment.Source, d digest.Digest) (desc ocispec.Descriptor, ok bool, err error) {
	l.mu.Lock()
	desc, read := l.read[d]
	entry, unread := l.unread[d]
	l.mu.Unlock()
	if read || !unread {
		return desc, read, nil
	}
	desc, err = l.fetch(ctx, store, src, entry)
	return desc, err == nil, err
}

// readFor reads the manifests that may name a blob that no known manifest names:
// all unread manifests, unless they are too many.
func (l *late) readFor(ctx context.Context, store blobstore.Store, src augment.Source, blob digest.Digest) error {
	l.mu.Lock()
	_, isManifest := l.read[blob]
	entries := maps.Clone(l.unread)
	l.mu.Unlock()
	if entry, ok := entries[blob]; ok {
		entries = map[digest.Digest]ocispec.Descriptor{blob: entry}
	}
	if isManifest || len(entries) > maxUnread {
		return nil
	}
	for _, entry := range entries {
		if _, err := l.fetch(ctx, store, src, entry); err != nil {
			return err
		}
	}
	return nil
}

// blob returns the descriptor of a blob that a late manifest names.
func (l *late) blob(d digest.Digest) (ocispec.Descriptor, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	desc, ok := l.blobs[d]
	return desc, ok
}

// fetch reads the manifest of an index's entry, stores it, and returns its
// descriptor.
func (l *late) fetch(ctx context.Context, store blobstore.Store, src augment.Source, entry ocispec.Descriptor) (ocispec.Descriptor, error) {
	o, err := src.Manifest(ctx, entry.Digest.String())
	if err != nil {
		return entry, err
	}
	refs, err := o.References()
	if err != nil {
		return entry, err
	}
	if err := store.Put(ctx, o.Digest, bytes.NewReader(o.Data)); err != nil {
		return entry, fmt.Errorf("store manifest %s: %w", o.Digest, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	entry.Size = int64(len(o.Data)) // the index may be wrong, the digest is not
	delete(l.unread, entry.Digest)
	l.read[entry.Digest] = entry
	for _, child := range refs.Manifests {
		if _, read := l.read[child.Digest]; !read {
			l.unread[child.Digest] = child
		}
	}
	if refs.Config != nil {
		l.blobs[refs.Config.Digest] = *refs.Config
	}
	for _, layer := range refs.Layers {
		l.blobs[layer.Digest] = layer
	}
	return entry, nil
}
