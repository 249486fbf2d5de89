package blobstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// CacheControl is sent with every blob, because a digest always names the same
// bytes. It is
// private because the token in the path is a credential, which shared caches
// would outlive, and no-transform because recompressed bytes have another
// digest.
const CacheControl = "private, max-age=31536000, immutable, no-transform"

// Serve answers GET and HEAD with the blob that desc describes, or returns an
// error having written nothing, not even a header. Content-Type is
// desc.MediaType. Ranges and conditional requests are answered by
// http.ServeContent. A caller that must answer with the whole blob, as with
// manifests, removes the Range header from the request.
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
	describe(w.Header(), desc)
	// No modification time: the digest is the better validator. The blob is not
	// wrapped, so that net/http finds the *os.File and can use sendfile.
	http.ServeContent(w, r, "", time.Time{}, blob)
	return nil
}

func describe(h http.Header, desc ocispec.Descriptor) {
	h.Set("Content-Type", desc.MediaType)
	h.Set("Docker-Content-Digest", desc.Digest.String())
	h.Set("Etag", `"`+desc.Digest.String()+`"`)
	// A value that the caller has set stays: a tag can name another digest later.
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", CacheControl)
	}
}

// ServeBytes is Serve for bytes in memory, which the caller knows to match desc.
// Header and body leave in one write, because a second write would be most of
// what serving a manifest costs.
func ServeBytes(w http.ResponseWriter, r *http.Request, data []byte, desc ocispec.Descriptor) {
	describe(w.Header(), desc)
	if r.Method != http.MethodGet || isConditional(r.Header) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
		return
	}
	w.Header().Set("Accept-Ranges", "bytes")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = w.Write(data) // an error means that the client has left
}

// isConditional reports whether the request may be for less than all bytes.
func isConditional(h http.Header) bool {
	for name := range h {
		if name == "Range" || strings.HasPrefix(name, "If-") {
			return true
		}
	}
	return false
}
