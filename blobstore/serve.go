package blobstore

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// CacheControl goes with every blob. What a digest names never changes. It is
// private because the token in the path is a credential, which shared caches
// would outlive, and no-transform because recompressed bytes have another
// digest.
const CacheControl = "private, max-age=31536000, immutable, no-transform"

// Serve answers GET and HEAD with the blob that desc describes, or returns an
// error having written nothing, not even a header. Content-Type is
// desc.MediaType. Ranges and conditional requests are answered by
// http.ServeContent; a caller whose clients want the whole whatever they ask,
// as with manifests, removes the Range header from the request.
//
// A blob that has not the size desc.Size is an error that is not ErrNotFound:
// the store is damaged, and a short body with a matching Content-Length would
// look like a whole one.
func Serve(w http.ResponseWriter, r *http.Request, s Store, desc ocispec.Descriptor) error {
	blob, err := s.Open(r.Context(), desc.Digest)
	if err != nil {
		return err
	}
	defer blob.Close()
	size, err := blob.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("serve blob %s: %w", desc.Digest, err)
	}
	if size != desc.Size {
		return fmt.Errorf("serve blob %s: expected %d bytes, found %d in the store", desc.Digest, desc.Size, size)
	}
	describe(w.Header(), desc)
	// No modification time: the digest is the better validator. The blob goes
	// in as it is, so that net/http finds the *os.File and can use sendfile.
	http.ServeContent(w, r, "", time.Time{}, blob)
	return nil
}

func describe(h http.Header, desc ocispec.Descriptor) {
	h.Set("Content-Type", desc.MediaType)
	h.Set("Docker-Content-Digest", desc.Digest.String())
	h.Set("Etag", `"`+desc.Digest.String()+`"`)
	// One that is set stays: what a tag names now is not what a digest names.
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", CacheControl)
	}
}

// ServeBytes is Serve for bytes that the caller has at hand and knows to be those
// that desc describes. Unlike a reader's, they leave in one write with the header,
// which is most of what a manifest costs.
func ServeBytes(w http.ResponseWriter, r *http.Request, data []byte, desc ocispec.Descriptor) {
	describe(w.Header(), desc)
	if r.Method != http.MethodGet || isConditional(r.Header) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
		return
	}
	w.Header().Set("Accept-Ranges", "bytes")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = w.Write(data) // an error is the client's, who has left
}

// isConditional reports whether not all of the bytes may be wanted.
func isConditional(h http.Header) bool {
	for name := range h {
		if name == "Range" || strings.HasPrefix(name, "If-") {
			return true
		}
	}
	return false
}
