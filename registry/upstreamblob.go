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

// upstreamBlobs passes on what the upstream has, or says where that is.
type upstreamBlobs struct{ client *upstream.Client }

func (b upstreamBlobs) serveBlob(w http.ResponseWriter, r *http.Request, img *image, d digest.Digest) error {
	desc, ok := img.blob(d)
	if !ok {
		return blobstore.ErrNotFound
	}
	front.RecordOf(r.Context()).Source = "upstream"
	span, err := answerHead(w, r, desc)
	if err != nil || span == nil {
		return err
	}
	location, body, err := b.client.Repository(img.target).Stream(r.Context(), desc, *span, true)
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
	writeSpan(w, desc, *span, r.Header.Get("Range") != "")
	if err := pour(w, body); err != nil {
		abort(r.Context(), err)
	}
	return nil
}

// answerHead sets the headers of a blob and answers what needs no bytes: HEAD,
// and who has the blob already. Otherwise it returns the part that is wanted.
func answerHead(w http.ResponseWriter, r *http.Request, desc ocispec.Descriptor) (*upstream.Span, error) {
	span, err := parseRange(r.Header.Get("Range"), desc.Size)
	if err != nil {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", desc.Size))
		return nil, err
	}
	h := w.Header()
	setBlobHeaders(h, desc)
	if matchesETag(r, desc.Digest) {
		w.WriteHeader(http.StatusNotModified)
		return nil, nil
	}
	if r.Method == http.MethodHead {
		h.Set("Content-Length", strconv.FormatInt(desc.Size, 10))
		w.WriteHeader(http.StatusOK)
		return nil, nil
	}
	return &span, nil
}

func setBlobHeaders(h http.Header, desc ocispec.Descriptor) {
	h.Set("Content-Type", blobType)
	h.Set("Docker-Content-Digest", desc.Digest.String())
	h.Set("Etag", `"`+desc.Digest.String()+`"`)
	h.Set("Accept-Ranges", "bytes")
	h.Set("Cache-Control", blobstore.CacheControl)
	h.Set(front.SourceHeader, "upstream")
}

// writeSpan writes the headers of an answer with all of the blob, or with the
// part of it that was asked for, which may be all.
func writeSpan(w http.ResponseWriter, desc ocispec.Descriptor, span upstream.Span, partial bool) {
	h, status := w.Header(), http.StatusOK
	h.Set("Content-Length", strconv.FormatInt(span.Length, 10))
	if partial {
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", span.Offset, span.Offset+span.Length-1, desc.Size))
		status = http.StatusPartialContent
	}
	w.WriteHeader(status)
}

// redirect turns the headers of a blob into those of a redirect. The location is
// good for minutes as a rule.
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

// parseRange reads a header that has the form of singleRange, or none. If-Range
// is not looked at: under one digest the bytes are always the same, so it always
// holds.
func parseRange(header string, size int64) (upstream.Span, error) {
	first, last, given := strings.Cut(strings.TrimPrefix(header, "bytes="), "-")
	if !given {
		return upstream.Span{Length: size}, nil
	}
	// What is too large for a number is beyond the end, too.
	from, err := strconv.ParseInt(first, 10, 64)
	to, lastErr := strconv.ParseInt(last, 10, 64)
	switch {
	case first == "": // the last so many bytes
		if lastErr != nil || to > size {
			to = size
		}
		from, err, to = size-to, nil, size-1
	case lastErr != nil || to >= size:
		to = size - 1
	}
	if err != nil || from >= size || from > to {
		return upstream.Span{}, front.Refuse(http.StatusRequestedRangeNotSatisfiable, front.RangeInvalid,
			"the range %q is not within the %d bytes of the blob", header, size)
	}
	return upstream.Span{Offset: from, Length: to - from + 1}, nil
}
