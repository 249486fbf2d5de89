package registry

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/upstream"
)

// streamedBlobs passes on the upstream's blobs without looking at the bytes, or
// redirects the client to where the upstream keeps them.
type streamedBlobs struct{ client *upstream.Client }

func (b streamedBlobs) serveBlob(w http.ResponseWriter, r *http.Request, img *image, d digest.Digest) error {
	desc, ok := img.upstreamBlob(d)
	if !ok {
		return errDecline
	}
	front.RecordOf(r.Context()).Source = "upstream"
	part, err := rangeOf(r, desc.Size)
	if err != nil {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", desc.Size))
		return err
	}
	setBlobHeaders(w.Header(), desc)
	if answerWithoutBytes(w, r, desc) {
		return nil
	}
	location, body, err := b.client.Repository(img.target).Stream(r.Context(), desc, part.Span, true)
	if err != nil {
		return err
	}
	if location != "" {
		front.RecordOf(r.Context()).Source = "redirect"
		redirect(w.Header(), location)
		w.WriteHeader(http.StatusTemporaryRedirect)
		return nil
	}
	defer body.Close()
	part.writeHeader(w)
	if err := copyBody(w, body); err != nil {
		abort(r.Context(), err)
	}
	return nil
}

// answerWithoutBytes answers HEAD, and a client that has the blob already.
func answerWithoutBytes(w http.ResponseWriter, r *http.Request, desc ocispec.Descriptor) bool {
	switch {
	case matchesETag(r, desc.Digest):
		w.WriteHeader(http.StatusNotModified)
	case r.Method == http.MethodHead:
		w.Header().Set("Content-Length", strconv.FormatInt(desc.Size, 10))
		w.WriteHeader(http.StatusOK)
	default:
		return false
	}
	return true
}

func setBlobHeaders(h http.Header, desc ocispec.Descriptor) {
	h.Set("Content-Type", blobType)
	h.Set("Docker-Content-Digest", desc.Digest.String())
	h.Set("Etag", `"`+desc.Digest.String()+`"`)
	h.Set("Accept-Ranges", "bytes")
	h.Set("Cache-Control", blobstore.CacheControl)
	h.Set(front.SourceHeader, "upstream")
}

// redirect turns the headers of a blob into the headers of a redirect. The answer
// must not be kept, because such a location is usually good for minutes only.
func redirect(h http.Header, location string) {
	for _, name := range []string{"Content-Type", "Etag", "Accept-Ranges"} {
		h.Del(name)
	}
	h.Set("Cache-Control", "no-store")
	h.Set("Location", location)
	h.Set("Content-Length", "0")
}

func matchesETag(r *http.Request, d digest.Digest) bool {
	for tag := range strings.SplitSeq(r.Header.Get("If-None-Match"), ",") {
		if tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/"); tag == "*" || tag == `"`+d.String()+`"` {
			return true
		}
	}
	return false
}
