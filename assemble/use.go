package assemble

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"
)

// Used keeps records and blobs from being collected. blobstore.Dir is one.
type Used interface {
	Use(ctx context.Context, record string, blobs []digest.Digest) error
}

// Use reports that the layers which the configuration has named are in use, those of
// previous configurations included: a restart without the network needs them.
func (l *Layers) Use(ctx context.Context, store Used) (failed error) {
	l.ofRecipes.Range(func(name, d any) bool {
		failed = errors.Join(failed, store.Use(ctx, name.(string), []digest.Digest{d.(digest.Digest)}))
		return ctx.Err() == nil
	})
	return failed
}
