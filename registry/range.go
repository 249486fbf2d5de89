package registry

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/upstream"
)

// byteRange is the part of a blob that a request asks for.
type byteRange struct {
	upstream.Span
	size    int64 // of the whole blob
	partial bool  // there was a Range header: the answer is 206, even with all bytes
}

// singleRange is the form of Range that is honoured. With any other, the whole
// blob is sent, as RFC 9110 allows for all and wants for unknown units. No engine
// reads answers of several parts.
var singleRange = regexp.MustCompile(`^bytes=(\d+-\d*|-\d+)$`)

// keepSingleRange removes a Range header that is not a singleRange.
func keepSingleRange(h http.Header) {
	if !singleRange.MatchString(h.Get("Range")) {
		h.Del("Range")
	}
}

// rangeOf returns the part of a blob of that size that the request asks for. The
// request has passed keepSingleRange. If-Range always holds, because the bytes
// under one digest never change. The error is a 416 for the client.
func rangeOf(r *http.Request, size int64) (byteRange, error) {
	return parseRange(r.Header.Get("Range"), size)
}

// parseRange reads a header that is empty or a singleRange.
func parseRange(header string, size int64) (byteRange, error) {
	first, last, partial := strings.Cut(strings.TrimPrefix(header, "bytes="), "-")
	if !partial {
		return byteRange{Span: upstream.Span{Length: size}, size: size}, nil
	}
	// A number that is too large for int64 is beyond the end, too.
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
		return byteRange{}, front.Refuse(http.StatusRequestedRangeNotSatisfiable, front.RangeInvalid,
			"the range %q is not within the %d bytes of the blob", header, size)
	}
	return byteRange{upstream.Span{Offset: from, Length: to - from + 1}, size, true}, nil
}

// writeHeader begins the answer whose body is the range.
func (b byteRange) writeHeader(w http.ResponseWriter) {
	h, status := w.Header(), http.StatusOK
	h.Set("Content-Length", strconv.FormatInt(b.Length, 10))
	if b.partial {
		h.Set("Content-Range", b.contentRange())
		status = http.StatusPartialContent
	}
	w.WriteHeader(status)
}

func (b byteRange) contentRange() string {
	return fmt.Sprintf("bytes %d-%d/%d", b.Offset, b.Offset+b.Length-1, b.size)
}
