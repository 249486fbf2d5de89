package byterange

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

const etag = `"sha256:abc"`

func get(method string, header ...string) *http.Request {
	r := httptest.NewRequest(method, "/", nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

func TestOf(t *testing.T) {
	whole := Range{Length: 100, Size: 100}
	part := func(offset, length int64) Range { return Range{offset, length, 100, true} }
	refused := &Unsatisfiable{}
	for name, test := range map[string]struct {
		r    *http.Request
		want Range
		err  error
	}{
		"nothing":                   {get("GET"), whole, nil},
		"from to":                   {get("GET", "Range", "bytes=5-9"), part(5, 5), nil},
		"from":                      {get("GET", "Range", "bytes=99-"), part(99, 1), nil},
		"all":                       {get("GET", "Range", "bytes=0-"), part(0, 100), nil},
		"last":                      {get("GET", "Range", "bytes=-4"), part(96, 4), nil},
		"last, more than all":       {get("GET", "Range", "bytes=-400"), part(0, 100), nil},
		"last, beyond int64":        {get("GET", "Range", "bytes=-99999999999999999999"), part(0, 100), nil},
		"end beyond":                {get("GET", "Range", "bytes=99-100"), part(99, 1), nil},
		"end beyond int64":          {get("GET", "Range", "bytes=1-99999999999999999999"), part(1, 99), nil},
		"last 0":                    {get("GET", "Range", "bytes=-0"), Range{}, refused},
		"outside":                   {get("GET", "Range", "bytes=100-"), Range{}, refused},
		"outside int64":             {get("GET", "Range", "bytes=99999999999999999999-"), Range{}, refused},
		"backwards":                 {get("GET", "Range", "bytes=9-5"), Range{}, refused},
		"several":                   {get("GET", "Range", "bytes=0-0,2-3"), whole, nil},
		"another unit":              {get("GET", "Range", "items=0-1"), whole, nil},
		"HEAD":                      {get("HEAD", "Range", "bytes=5-9"), whole, nil},
		"HEAD, outside":             {get("HEAD", "Range", "bytes=100-"), whole, nil},
		"If-Range":                  {get("GET", "Range", "bytes=5-9", "If-Range", etag), part(5, 5), nil},
		"If-Range, other bytes":     {get("GET", "Range", "bytes=5-9", "If-Range", `"x"`), whole, nil},
		"If-Range, weak":            {get("GET", "Range", "bytes=5-9", "If-Range", "W/"+etag), whole, nil},
		"If-Range, a date":          {get("GET", "Range", "bytes=5-9", "If-Range", "Mon, 01 Jan 2029 00:00:00 GMT"), whole, nil},
		"If-Match":                  {get("GET", "If-Match", `"x", `+etag), whole, nil},
		"If-Match, any":             {get("GET", "If-Match", "*"), whole, nil},
		"If-Match, other bytes":     {get("HEAD", "If-Match", `"x"`), whole, ErrOtherBytes},
		"If-Match, weak":            {get("GET", "If-Match", "W/"+etag), whole, ErrOtherBytes},
		"If-None-Match":             {get("GET", "If-None-Match", "W/"+etag, "Range", "bytes=100-"), whole, ErrNotModified},
		"If-None-Match, any":        {get("HEAD", "If-None-Match", "*"), whole, ErrNotModified},
		"If-None-Match, other":      {get("GET", "If-None-Match", `"x"`), whole, nil},
		"If-Match, If-None-Match":   {get("GET", "If-Match", `"x"`, "If-None-Match", etag), whole, ErrOtherBytes},
		"If-Modified-Since, future": {get("GET", "If-Modified-Since", "Mon, 01 Jan 2029 00:00:00 GMT"), whole, nil},
	} {
		got, err := Of(test.r, 100, etag)
		_, outside := errors.AsType[*Unsatisfiable](err)
		if got != test.want || outside != (test.err == error(refused)) || !outside && err != test.err {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if got, err := Of(get("GET", "Range", "bytes=0-"), 0, etag); err != nil || got != (Range{}) {
		t.Errorf("an empty blob: %+v, %v", got, err)
	}
}

func TestAnswer(t *testing.T) {
	for name, test := range map[string]struct {
		r      *http.Request
		done   bool
		status int
		header map[string]string
	}{
		"GET":          {get("GET"), false, 200, map[string]string{"Content-Length": "100", "Content-Type": "x/y", "Accept-Ranges": "bytes", "Content-Range": ""}},
		"part":         {get("GET", "Range", "bytes=-4"), false, 206, map[string]string{"Content-Length": "4", "Content-Range": "bytes 96-99/100"}},
		"HEAD":         {get("HEAD", "Range", "bytes=-4"), true, 200, map[string]string{"Content-Length": "100", "Content-Type": "x/y", "Content-Range": ""}},
		"not modified": {get("GET", "If-None-Match", etag), true, 304, map[string]string{"Content-Length": "", "Content-Type": ""}},
		"outside":      {get("GET", "Range", "bytes=-0"), false, 0, map[string]string{"Content-Range": "bytes */100", "Content-Type": ""}},
		"other bytes":  {get("GET", "If-Match", `"x"`), false, 0, map[string]string{"Content-Range": "", "Content-Type": ""}},
	} {
		w := httptest.NewRecorder()
		w.Code = 0
		part, done, err := Answer(w, test.r, 100, etag, func(h http.Header) { h.Set("Content-Type", "x/y") })
		if done != test.done || (err != nil) != (test.status == 0) {
			t.Errorf("%s: done %t, %v", name, done, err)
		}
		if err == nil && !done {
			part.WriteHeader(w)
		}
		if w.Code != test.status {
			t.Errorf("%s: status %d, want %d", name, w.Code, test.status)
		}
		for k, v := range test.header {
			if got := w.Header().Get(k); got != v {
				t.Errorf("%s: %s is %q, want %q", name, k, got, v)
			}
		}
	}
}

// FuzzOf compares ranges with http.ServeContent, where that is right.
func FuzzOf(f *testing.F) {
	for _, header := range []string{"", "bytes=0-", "bytes=5-9", "bytes=-4", "bytes=9-5", "bytes=100-", "bytes= 1-2", "bytes=-100", "bytes=-101", "bytes=99-99", "bytes=99-100"} {
		f.Add(header, int64(100))
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		size = max(size, 1) // an empty blob has no range
		r := get("GET", "Range", header)
		part, err := Of(r, size, etag)
		if err == nil && (part.Offset < 0 || part.Length < 1 || part.Offset > size-part.Length) {
			t.Fatalf("%q of %d bytes is %+v", header, size, part)
		}
		// ServeContent sends several parts, refuses what int64 cannot hold, and sends
		// "the last 0 bytes".
		if !single.MatchString(header) || len(header) > len("bytes=")+18 || err != nil {
			return
		}
		r.Method = http.MethodHead // ServeContent then reads nothing
		other, ours := httptest.NewRecorder(), httptest.NewRecorder()
		http.ServeContent(other, r, "", time.Time{}, sized(size))
		part.WriteHeader(ours)
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
