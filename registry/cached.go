package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore/cache"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/internal/byterange"
	"github.com/waveproxy/waveproxy/internal/flight"
	"github.com/waveproxy/waveproxy/internal/sizedlru"
	"github.com/waveproxy/waveproxy/upstream"
)

// cachedBlobs serves the upstream's blobs and keeps them on disk. It declines HEAD,
// bad ranges, ranges far ahead of the bytes that have arrived, and any blob that the
// cache cannot take (cache.ErrUnavailable); streamedBlobs is next.
type cachedBlobs struct {
	cache  *cache.Cache
	client *upstream.Client
	// readable holds the pairs of a target and a blob whose registry recently allowed
	// the read. A blob's presence in the cache is no permission.
	readable *sizedlru.Cache[readableKey, struct{}]
	proofs   *flight.Calls
}

type readableKey struct {
	registry string // base URL, which a new configuration may change
	target   auth.Target
	digest   digest.Digest
}

const (
	// readableTTL is how long a withdrawn credential goes on reading cached blobs.
	readableTTL  = 5 * time.Minute
	maxReadables = 1 << 16
	// readablesCost bounds them in bytes, because strangers choose names.
	readablesCost = 16 << 20

	// skipAhead is how many bytes a range may begin after the part of a blob that
	// has arrived. A range farther on is read from the upstream by itself, because
	// waiting for it would take too long.
	skipAhead = 16 << 20

	proofTimeout = time.Minute
)

// cost returns what the key costs in memory, in bytes.
func (k readableKey) cost() int64 {
	const entry = 320 // of the cache, with the key's own words
	return entry + textCost(k.target.Identity) + textCost(k.target.Repository) + textCost(string(k.digest))
}

func newCachedBlobs(c *cache.Cache, client *upstream.Client) cachedBlobs {
	return cachedBlobs{c, client, sizedlru.New[readableKey, struct{}](readablesCost, maxReadables, readableTTL), new(flight.Calls)}
}

func (b cachedBlobs) serveBlob(w http.ResponseWriter, r *http.Request, img *image, d digest.Digest) error {
	desc, ok := img.upstreamBlob(d)
	if !ok {
		return errDecline
	}
	if err := checkSize(img, desc); err != nil {
		return err
	}
	repo := b.client.Repository(img.target)
	part, err := byterange.Of(r, desc.Size, etagOf(desc))
	if r.Method == http.MethodHead || err != nil || part.Offset > b.cache.Available(repo.Host(), d)+skipAhead {
		return errDecline
	}
	blob, err := b.open(r.Context(), repo, img.target, desc)
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

// open opens the blob for a target. If the cache has the blob already, and the
// target has not read it recently, the registry is asked first whether this target
// may read it.
func (b cachedBlobs) open(ctx context.Context, repo *upstream.Repository, target auth.Target, desc ocispec.Descriptor) (*cache.Blob, error) {
	key := readableKey{repo.Host(), target, desc.Digest}
	reader := cache.Reader{
		Registry: key.registry, Access: fmt.Sprintf("%q %q %q", target.Identity, target.Registry, target.Repository),
		Client: front.ClientOf(ctx),
	}
	_, reader.Proven = b.readable.Get(key)
	fetch := func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		_, body, err := repo.Stream(ctx, desc, upstream.Span{Offset: offset, Length: desc.Size - offset}, false)
		if err == nil {
			b.readable.Add(key, struct{}{}, key.cost())
		}
		return body, err
	}
	blob, err := b.cache.Open(ctx, reader, desc, fetch)
	if !errors.Is(err, cache.ErrUnproven) {
		return blob, err
	}
	if err := b.prove(ctx, repo, key, desc); err != nil {
		return nil, err
	}
	reader.Proven = true
	return b.cache.Open(ctx, reader, desc, fetch)
}

// prove asks the registry with HEAD, once for all requests that need the answer.
func (b cachedBlobs) prove(ctx context.Context, repo *upstream.Repository, key readableKey, desc ocispec.Descriptor) error {
	_, err := flight.Do(ctx, b.proofs, fmt.Sprintf("%q %+q %s", key.registry, []string{key.target.Identity, key.target.Registry, key.target.Repository}, key.digest), proofTimeout, func(ctx context.Context) (struct{}, error) {
		_, err := repo.BlobHead(ctx, desc)
		if err == nil {
			b.readable.Add(key, struct{}{}, key.cost())
		}
		return struct{}{}, err
	})
	return err
}

// clientError marks an error that the client caused, by going away or by not
// reading, as a leftError. Any other is the upstream's and returned as it is.
func clientError(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, os.ErrDeadlineExceeded) {
		return &leftError{err}
	}
	return err
}
