package assemble

import (
	"context"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/budget"
)

// documentCost is how many bytes of memory a byte of a document costs at most while
// an image is made of it: the document and its members. Documents that are made are
// charged beside it, because a short one may get a long environment.
const documentCost = 4

// chargedSource is a Source whose documents, and the documents made of them, are charged to
// the request until it is released. It is safe for concurrent use.
type chargedSource struct {
	augment.Source

	mu   sync.Mutex
	held []func()
}

// Manifest is Source.Manifest. Errors may be *budget.Exceeded.
func (s *chargedSource) Manifest(ctx context.Context, ref string) (augment.Object, error) {
	o, err := s.Source.Manifest(ctx, ref)
	if err != nil {
		return o, err
	}
	return o, s.hold(ctx, documentCost*int64(len(o.Data)))
}

// Blob is Source.Blob. Errors may be *budget.Exceeded.
func (s *chargedSource) Blob(ctx context.Context, d ocispec.Descriptor) (augment.Object, error) {
	o, err := s.Source.Blob(ctx, d)
	if err != nil {
		return o, err
	}
	return o, s.hold(ctx, documentCost*int64(len(o.Data)))
}

// hold charges bytes of memory. An error is *budget.Exceeded.
func (s *chargedSource) hold(ctx context.Context, bytes int64) error {
	release, err := budget.From(ctx).Hold(budget.Memory, bytes)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = append(s.held, release)
	return nil
}

// release gives back what is held. No document may be used after it.
func (s *chargedSource) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, release := range s.held {
		release()
	}
	s.held = nil
}
