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
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/blobstore/cache"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/upstream"
)

// cachedBlobs keeps what the upstream has. Where it cannot help, the next source
// does.
type cachedBlobs struct {
	cache  *cache.Cache
	client *upstream.Client
	// readable remembers who could read what. A blob that another identity or
	// repository brought is asked for first, with HEAD: that the cache has it is no
	// permission.
	readable *expirable.LRU[readableKey, struct{}]
}

type readableKey struct {
	target auth.Target
	digest digest.Digest
}

const (
	readableTTL  = time.Hour
	maxReadables = 1 << 16

	// skipAhead is how far a range may be beyond what has come of a blob before it
	// is taken from the upstream by itself rather than waited for.
	skipAhead = 16 << 20
)

func newCachedBlobs(c *cache.Cache, client *upstream.Client) cachedBlobs {
	return cachedBlobs{c, client, expirable.NewLRU[readableKey, struct{}](maxReadables, nil, readableTTL)}
}

func (b cachedBlobs) serveBlob(w http.ResponseWriter, r *http.Request, img *image, d digest.Digest) error {
	desc, ok := img.blob(d)
	if !ok {
		return blobstore.ErrNotFound
	}
	available := b.cache.Available(d)
	span, err := parseRange(r.Header.Get("Range"), desc.Size)
	if r.Method == http.MethodHead || err != nil || span.Offset > available+skipAhead {
		return blobstore.ErrNotFound // the upstream's source answers
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
		return blobstore.ErrNotFound
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

// clientError tells a client that went away or stopped reading from an upstream
// that failed.
func clientError(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, os.ErrDeadlineExceeded) {
		return &leftError{err}
	}
	return err
}
