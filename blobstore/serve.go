package blobstore

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/internal/byterange"
)

// CacheControl is sent with every blob, because a digest always names the same
// bytes. It is
// private because the token in the path is a credential, which shared caches
// would outlive, and no-transform because recompressed bytes have another
// digest.
const CacheControl = "private, max-age=31536000, immutable, no-transform"

// Serve answers GET and HEAD with the blob that desc describes, or returns an
// error having written nothing. Content-Type is desc.MediaType. Errors of ranges and
// conditions are those of byterange.Answer. A caller that must answer with the whole
// blob, as with manifests, removes the Range header from the request.
//
// A damaged blob, and one whose size differs from desc.Size, is an error that is
// deliberately not ErrNotFound: a short body with a matching Content-Length would
// look like a whole one.
func Serve(w http.ResponseWriter, r *http.Request, s Store, desc ocispec.Descriptor) error {
	blob, err := s.Open(r.Context(), desc.Digest)
	if errors.Is(err, ErrDamaged) {
		return fmt.Errorf("serve blob %s: the store has damaged bytes: %w", desc.Digest, ErrLost)
	}
	if err != nil {
		return err
	}
	defer blob.Close()
	size, err := blob.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("serve blob %s: %w", desc.Digest, err)
	}
	if size != desc.Size {
		return fmt.Errorf("serve blob %s: expected %d bytes, found %d in the store: %w", desc.Digest, desc.Size, size, ErrLost)
	}
	part, done, err := byterange.Answer(w, r, size, etagOf(desc), func(h http.Header) { describe(h, desc) })
	if done || err != nil {
		return err
	}
	if _, err := blob.Seek(part.Offset, io.SeekStart); err != nil {
		return fmt.Errorf("serve blob %s: %w", desc.Digest, err)
	}
	part.WriteHeader(w)
	// The blob is not wrapped, so that net/http finds the *os.File and can use
	// sendfile. An error means that the client has left, or that the body is too short;
	// then net/http closes the connection.
	_, _ = io.CopyN(w, blob, part.Length)
	return nil
}

func etagOf(desc ocispec.Descriptor) string { return `"` + desc.Digest.String() + `"` }

func describe(h http.Header, desc ocispec.Descriptor) {
	h.Set("Content-Type", desc.MediaType)
	h.Set("Docker-Content-Digest", desc.Digest.String())
	h.Set("Etag", etagOf(desc))
	// A value that the caller has set stays: a tag can name another digest later.
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", CacheControl)
	}
}

// ServeBytes is Serve for bytes in memory, which the caller knows to match desc.
// Header and body leave in one write, because a second write would be most of
// what serving a manifest costs.
func ServeBytes(w http.ResponseWriter, r *http.Request, data []byte, desc ocispec.Descriptor) error {
	part, done, err := byterange.Answer(w, r, int64(len(data)), etagOf(desc), func(h http.Header) { describe(h, desc) })
	if done || err != nil {
		return err
	}
	part.WriteHeader(w)
	_, _ = w.Write(data[part.Offset : part.Offset+part.Length]) // an error means that the client has left
	return nil
}
