package assemble

import (
	"context"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/layerindex"
)

// documentCost is how many bytes of memory a byte of a document costs at most while
// an image is made of it: the document and its members. Documents that are made are
// charged beside it, because a short one may get a long environment.
const documentCost = 4

// chargedSource is a Source whose documents, the documents made of them and the indexes of
// layers are charged to the request until it is released. It is safe for concurrent use.
type chargedSource struct {
	baseSource

	mu    sync.Mutex
	held  []func()
	ended bool // it was released
}

// Manifest is Source.Manifest. Errors may be *budget.Exceeded.
func (s *chargedSource) Manifest(ctx context.Context, ref string) (augment.Object, error) {
	o, err := s.baseSource.Manifest(ctx, ref)
	if err != nil {
		return o, err
	}
	return o, s.hold(ctx, documentCost*int64(len(o.Data)))
}

// Blob is Source.Blob. Errors may be *budget.Exceeded.
func (s *chargedSource) Blob(ctx context.Context, d ocispec.Descriptor) (augment.Object, error) {
	o, err := s.baseSource.Blob(ctx, d)
	if err != nil {
		return o, err
	}
	return o, s.hold(ctx, documentCost*int64(len(o.Data)))
}

// Index is Source.Index. Errors may be *budget.Exceeded.
func (s *chargedSource) Index(ctx context.Context, d ocispec.Descriptor) (*layerindex.Index, error) {
	index, release, err := s.index(ctx, d)
	if err != nil {
		return nil, err
	}
	s.until(release)
	return index, nil
}

// Files is Source.Files. Errors may be *budget.Exceeded.
func (s *chargedSource) Files(ctx context.Context, d ocispec.Descriptor, names []string) (map[string]layerindex.File, error) {
	files, err := s.baseSource.Files(ctx, d, names)
	if err != nil {
		return nil, err
	}
	return files, s.hold(ctx, sizeOf(files))
}

// added returns the index of an added layer, which is in the archives. Errors may be
// *budget.Exceeded.
func (s *chargedSource) added(ctx context.Context, archives augment.Archives, l augment.Layer) (*layerindex.Index, error) {
	index, release, err := s.indexes.added(ctx, archives, l)
	if err != nil {
		return nil, err
	}
	s.until(release)
	return index, nil
}

// hold charges bytes of memory. An error is *budget.Exceeded.
func (s *chargedSource) hold(ctx context.Context, bytes int64) error {
	_, err := s.made(ctx, bytes)
	return err
}

// made charges the memory of a document that is to be made. An error is *budget.Exceeded.
func (s *chargedSource) made(ctx context.Context, bytes int64) (giveBack func(), err error) {
	release, err := budget.From(ctx).Hold(budget.Memory, bytes)
	if err != nil {
		return nil, err
	}
	s.until(release)
	return release, nil
}

// until has release called when everything is released. Work that requests share may go on
// when the request that began it has ended: what it reads then is released at once.
func (s *chargedSource) until(release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		release()
		return
	}
	s.held = append(s.held, release)
}

// release gives back what is held. No document may be used after it.
func (s *chargedSource) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, release := range s.held {
		release()
	}
	s.held, s.ended = nil, true
}
