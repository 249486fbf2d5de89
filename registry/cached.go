package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/hashicorp/golang-lru/v2/expirable"
	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore/cache"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/upstream"
)

// cachedBlobs serves the upstream's blobs and keeps them on disk. It declines
// whatever the cache cannot help with; streamedBlobs is next.
type cachedBlobs struct {
	cache  *cache.Cache
	client *upstream.Client
	// readable has the blobs that a target was allowed to read. A blob that came
	// for another identity or repository is first asked for with HEAD, because its
	// presence in the cache is no permission.
	readable *expirable.LRU[readableKey, struct{}]
}

type readableKey struct {
	target auth.Target
	digest digest.Digest
}

const (
	readableTTL  = time.Hour
	maxReadables = 1 << 16

	// skipAhead is how many bytes a range may begin after the part of a blob that
	// has arrived. A range farther on is read from the upstream by itself, because
	// waiting for it would take too long.
	skipAhead = 16 << 20
)

func newCachedBlobs(c *cache.Cache, client *upstream.Client) cachedBlobs {
	return cachedBlobs{c, client, expirable.NewLRU[readableKey, struct{}](maxReadables, nil, readableTTL)}
}

func (b cachedBlobs) serveBlob(w http.ResponseWriter, r *http.Request, img *image, d digest.Digest) error {
	desc, ok := img.upstreamBlob(d)
	if !ok {
		return errDecline
	}
	available := b.cache.Available(d)
	part, err := rangeOf(r, desc.Size)
	if r.Method == http.MethodHead || err != nil || part.Offset > available+skipAhead {
		return errDecline
	}
	repo := b.client.Repository(img.target)
	key := readableKey{img.target, d}
	if _, known := b.readable.Get(key); !known && available > 0 {
		if _, err := repo.BlobHead(r.Context(), desc); err != nil {
			return err
		}
		b.readable.Add(key, struct{}{})
	}
	blob, err := b.cache.Open(r.Context(), desc, func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		_, body, err := repo.Stream(ctx, desc, upstream.Span{Offset: offset, Length: desc.Size - offset}, false)
		if err == nil {
			b.readable.Add(key, struct{}{})
		}
		return body, err
	})
	if errors.Is(err, cache.ErrUnavailable) {
		return errDecline
	}
	if err != nil {
		return err
	}
	defer blob.Close()
	setBlobHeaders(w.Header(), desc)
	front.RecordOf(r.Context()).Source = "upstream"
	if blob.Stored() {
		front.RecordOf(r.Context()).Source = "cache"
	}
	if err := blob.Serve(w, r); err != nil {
		abort(r.Context(), clientError(r.Context(), err))
	}
	return nil
}

// clientError marks an error that the client caused, by going away or by not
// reading, as a leftError. Any other is the upstream's and returned as it is.
func clientError(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, os.ErrDeadlineExceeded) {
		return &leftError{err}
	}
	return err
}
