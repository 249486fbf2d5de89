// Package byterange is what HTTP's ranges and conditions (RFC 9110) mean for bytes
// that never change: every source of blobs answers them in the same way.
//
// The package must never look at the bytes.
//
// Files: byterange.go.
package byterange

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// Range is the part of a blob that a request asks for.
type Range struct {
	Offset, Length int64
	Size           int64 // of the whole blob
	Partial        bool  // the answer is 206, even with all bytes
}

// Unsatisfiable is the error for a range that has no byte of the blob: 416. Its text
// is for clients.
type Unsatisfiable struct {
	Header string
	Size   int64
}

func (u *Unsatisfiable) Error() string {
	return fmt.Sprintf("the range %.100q is not within the %d bytes of the blob", u.Header, u.Size)
}

var (
	// ErrNotModified says that the client has the bytes: 304.
	ErrNotModified = errors.New("not modified")
	// ErrOtherBytes says that the client wants other bytes than these (If-Match): 412.
	ErrOtherBytes = errors.New("the blob under this digest does not have the ETag in If-Match")
)

// single is the form of Range that is honoured. With any other, the whole blob is
// sent, as RFC 9110 allows for all and wants for unknown units. No engine reads
// answers of several parts.
var single = regexp.MustCompile(`^bytes=(\d+-\d*|-\d+)$`)

// Of returns the part that the request asks for, of size bytes with the strong ETag.
// HEAD ignores Range. Errors are ErrNotModified, ErrOtherBytes and *Unsatisfiable.
func Of(r *http.Request, size int64, etag string) (Range, error) {
	whole := Range{Length: size, Size: size}
	if match := r.Header.Values("If-Match"); len(match) > 0 && !lists(match, etag, false) {
		return whole, ErrOtherBytes
	}
	if lists(r.Header.Values("If-None-Match"), etag, true) {
		return whole, ErrNotModified
	}
	header := r.Header.Get("Range")
	// Some clients send a range with every request, for empty blobs, too.
	if r.Method == http.MethodHead || size == 0 || !single.MatchString(header) {
		return whole, nil
	}
	// Dates do not match: these bytes have none.
	if same := r.Header.Get("If-Range"); same != "" && same != etag {
		return whole, nil
	}
	return parse(header, size)
}

// lists reports whether a list of ETags has this one. weak says that weak ones
// count.
func lists(values []string, etag string, weak bool) bool {
	for _, value := range values {
		for tag := range strings.SplitSeq(value, ",") {
			tag = strings.TrimSpace(tag)
			if weak {
				tag = strings.TrimPrefix(tag, "W/")
			}
			if tag == "*" || tag == etag {
				return true
			}
		}
	}
	return false
}

// parse reads a header of the form single.
func parse(header string, size int64) (Range, error) {
	first, last, _ := strings.Cut(strings.TrimPrefix(header, "bytes="), "-")
	// A number that is too large for int64 is beyond the end, too.
	from, err := strconv.ParseInt(first, 10, 64)
	to, lastErr := strconv.ParseInt(last, 10, 64)
	switch {
	case first == "": // the last so many bytes
		if lastErr != nil || to > size {
			to = size
		}
		from, err, to = size-to, nil, size-1
	case lastErr != nil || to >= size && to >= from:
		to = size - 1
	}
	if err != nil || from >= size || from > to {
		return Range{}, &Unsatisfiable{header, size}
	}
	return Range{Offset: from, Length: to - from + 1, Size: size, Partial: true}, nil
}

// Answer is Of, and answers what needs no bytes: done says that the answer is
// complete. describe sets the headers of the blob. After an error nothing is written,
// and no header is set but the Content-Range of a 416.
func Answer(w http.ResponseWriter, r *http.Request, size int64, etag string, describe func(http.Header)) (part Range, done bool, err error) {
	part, err = Of(r, size, etag)
	if u, ok := errors.AsType[*Unsatisfiable](err); ok {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", u.Size))
	}
	if err != nil && err != ErrNotModified {
		return part, false, err
	}
	describe(w.Header())
	if err == ErrNotModified {
		w.Header().Del("Content-Type")
		w.WriteHeader(http.StatusNotModified)
		return part, true, nil
	}
	if r.Method == http.MethodHead {
		part.WriteHeader(w)
		return part, true, nil
	}
	return part, false, nil
}

// WriteHeader begins the answer whose body is the range.
func (p Range) WriteHeader(w http.ResponseWriter) {
	h, status := w.Header(), http.StatusOK
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Length", strconv.FormatInt(p.Length, 10))
	if p.Partial {
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", p.Offset, p.Offset+p.Length-1, p.Size))
		status = http.StatusPartialContent
	}
	w.WriteHeader(status)
}
