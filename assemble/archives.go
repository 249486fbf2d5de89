package assemble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/internal/pack"
	"github.com/waveproxy/waveproxy/internal/sizedlru"
)

// archives has the layers that one image is made of. Small ones that are made for it go
// into memory, and from there into the record of the image's grant: a file for each would
// cost more than the rest of the request.
type archives struct {
	store  blobstore.Store // what images share
	staged blobstore.Store // may be nil
	made   *blobstore.Mem  // small layers that were written for this image
	upon   []*auth.Grant
	recent *recent
}

// recent has small layers that were written for images a moment ago. Package augment
// remembers that it has made them.
type recent struct {
	cache *sizedlru.Cache[digest.Digest, []byte]
}

// recentCost bounds the bytes of these layers in memory.
const (
	recentCost = 8 << 20
	recentMany = 4096
	recentOne  = 256 // beside a layer's bytes
)

func newRecent() *recent {
	return &recent{sizedlru.New[digest.Digest, []byte](recentCost, recentMany, 0)}
}

func (r *Resolver) archives(req ImageRequest) archives {
	return archives{store: r.store, staged: req.Staged, made: blobstore.NewMem(), upon: req.Upon, recent: r.recent}
}

// find calls use with each store that may have a layer, until one of them has it.
func (a archives) find(use func(blobstore.Store) error) error {
	err := error(blobstore.ErrNotFound)
	for _, s := range []blobstore.Store{a.staged, a.made, a.store} {
		if s == nil {
			continue
		}
		if err = use(s); !errors.Is(err, blobstore.ErrNotFound) {
			return err
		}
	}
	for _, g := range a.upon {
		if found := use(blobstore.In(a.store, g.Record)); !errors.Is(found, blobstore.ErrNotFound) {
			return found
		}
	}
	return err
}

// Open implements augment.Archives.
func (a archives) Open(ctx context.Context, d digest.Digest) (f io.ReadSeekCloser, err error) {
	if data, ok := a.recent.cache.Get(d); ok {
		return held{bytes.NewReader(data)}, nil
	}
	err = a.find(func(s blobstore.Store) error {
		f, err = s.Open(ctx, d)
		return err
	})
	return f, err
}

// Verify implements augment.Archives.
func (a archives) Verify(ctx context.Context, d digest.Digest) error {
	if _, ok := a.recent.cache.Get(d); ok {
		return nil
	}
	return a.find(func(s blobstore.Store) error { return s.Verify(ctx, d) })
}

// Put implements augment.Archives.
func (a archives) Put(ctx context.Context, d digest.Digest, r io.Reader) error {
	small := bytes.NewBuffer(nil)
	_, err := io.CopyN(small, r, pack.MaxPart+1)
	if err == nil {
		return a.store.Put(ctx, d, io.MultiReader(small, r))
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	if err := a.made.Put(ctx, d, bytes.NewReader(small.Bytes())); err != nil {
		return err
	}
	data := bytes.Clone(small.Bytes()) // without the room that reading left
	a.recent.cache.Add(d, data, int64(len(data))+recentOne)
	return nil
}

type held struct{ *bytes.Reader }

func (held) Close() error { return nil }

// parts returns the blobs of an image that its clients get from this server. They can be
// read until the request has ended.
func (a archives) parts(ctx context.Context, image *augment.Image) ([]pack.Part, error) {
	var parts []pack.Part
	for _, o := range image.Objects {
		parts = append(parts, pack.Of(o.Digest, o.Data))
	}
	for _, l := range image.Layers {
		f, err := a.Open(ctx, l.Digest)
		if err != nil {
			return nil, err
		}
		size, err := f.Seek(0, io.SeekEnd)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("read layer %s: %w", l.Digest, err)
		}
		parts = append(parts, pack.Part{Digest: l.Digest, Size: size, Open: func(ctx context.Context) (io.ReadCloser, error) {
			return a.Open(ctx, l.Digest)
		}})
	}
	return parts, nil
}
