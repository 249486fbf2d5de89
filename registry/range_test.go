package registry

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// FuzzRange compares byteRange with http.ServeContent, which serves the blobs of the
// store and of the cache.
func FuzzRange(f *testing.F) {
	for _, header := range []string{"", "bytes=0-", "bytes=5-9", "bytes=-4", "bytes=-0", "bytes=9-5", "bytes=100-", "bytes=0-0,2-3", "items=0-1", "bytes=99999999999999999999-", "bytes=1-99999999999999999999", "bytes= 1-2", "bytes=-100", "bytes=-101", "bytes=99-99", "bytes=99-100", "bytes=100-100"} {
		f.Add(header, int64(100))
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 1 {
			t.Skip()
		}
		r := httptest.NewRequest(http.MethodHead, "/", nil)
		r.Header.Set("Range", header)
		keepSingleRange(r.Header)
		kept := r.Header.Get("Range")
		part, err := rangeOf(r, size)
		switch {
		case err != nil && kept == "":
			t.Fatalf("%q, which is ignored, is refused: %v", header, err)
		case err == nil && (part.Offset < 0 || part.Length < 1 || part.Offset > size-part.Length):
			t.Fatalf("%q of %d bytes is %+v", header, size, part)
		case err == nil && part.partial != (kept != ""):
			t.Fatalf("%q: partial is %v", header, part.partial)
		}
		// ServeContent refuses numbers that int64 cannot hold, and sends "the last 0
		// bytes" with a Content-Range that no client can read.
		if last, isSuffix := strings.CutPrefix(kept, "bytes=-"); len(kept) > len("bytes=")+18 || isSuffix && strings.Trim(last, "0") == "" {
			return
		}
		other := httptest.NewRecorder()
		http.ServeContent(other, r, "", time.Time{}, sized(size))
		ours := httptest.NewRecorder()
		if err != nil {
			ours.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			other.Header().Del("Content-Range")
			other.Header().Del("Content-Length")
		} else {
			part.writeHeader(ours)
		}
		for _, name := range []string{"Content-Range", "Content-Length"} {
			if got, want := ours.Header().Get(name), other.Header().Get(name); got != want {
				t.Errorf("%q of %d bytes: %s %q, want %q", header, size, name, got, want)
			}
		}
		if ours.Code != other.Code {
			t.Errorf("%q of %d bytes: status %d, want %d", header, size, ours.Code, other.Code)
		}
	})
}

// sized is a content with a size and without bytes.
type sized int64

func (s sized) Read([]byte) (int, error) { return 0, io.EOF }

func (s sized) Seek(_ int64, whence int) (int64, error) {
	if whence == io.SeekEnd {
		return int64(s), nil
	}
	return 0, nil
}
