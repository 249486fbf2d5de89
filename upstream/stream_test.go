package upstream

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// bigBlob is larger than the progress that resets the attempts.
var bigBlob = func() []byte {
	data := make([]byte, 3<<20)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(data)
	return data
}()

var bigDesc = ocispec.Descriptor{Digest: digest.FromBytes(bigBlob), Size: int64(len(bigBlob))}

// whole serves the blob without faults.
func whole(w http.ResponseWriter, r *http.Request) {
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(bigBlob))
}

// cutAfter breaks the connection after n bytes of the answer.
func cutAfter(n int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { whole(&cutter{w, n}, r) }
}

type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	if len(p) < c.left {
		c.left -= len(p)
		return c.ResponseWriter.Write(p)
	}
	_, _ = c.ResponseWriter.Write(p[:c.left])
	_ = http.NewResponseController(c.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

func ignoringRange(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		h(w, r)
	}
}

// otherRange answers every request for a range with another range.
func otherRange(contentRange string, from, to int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") == "" {
			whole(w, r)
			return
		}
		w.Header().Set("Content-Range", contentRange)
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(bigBlob[from:to])
	}
}

// lying sends n bytes and claims that they are the blob.
func lying(n int, sayLength bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if sayLength {
			w.Header().Set("Content-Length", strconv.Itoa(n))
		} else {
			_ = http.NewResponseController(w).Flush() // chunked
		}
		_, _ = w.Write(bytes.Repeat(bigBlob, 2)[:n])
	}
}

func TestStreamGoesOn(t *testing.T) {
	full := Span{0, bigDesc.Size}
	middle := Span{1 << 20, 1 << 20}
	size := int(bigDesc.Size)
	for name, test := range map[string]struct {
		span   Span
		server http.HandlerFunc
		asked  int
	}{
		"at once":                       {full, whole, 1},
		"a part":                        {middle, whole, 1},
		"the first byte":                {Span{0, 1}, whole, 1},
		"the last byte":                 {Span{bigDesc.Size - 1, 1}, whole, 1},
		"nothing":                       {Span{5, 0}, whole, 0},
		"cut once":                      {full, inTurn(cutAfter(1<<20), whole), 2},
		"cut before the first byte":     {full, inTurn(cutAfter(0), whole), 2},
		"cut at the last byte":          {full, inTurn(cutAfter(size-1), whole), 2},
		"cut many times, with progress": {full, cutAfter(300 << 10), 11},
		"a part, cut":                   {middle, inTurn(cutAfter(100), cutAfter(100), whole), 3},
		"cut, then Range ignored":       {full, inTurn(cutAfter(1<<20), ignoringRange(whole)), 2},
		"a part, Range ignored":         {middle, ignoringRange(whole), 1},
		"a part, Range ignored, cut":    {middle, ignoringRange(inTurn(cutAfter(1<<20+512<<10), whole)), 2},
		"a part of another place":       {middle, otherRange(fmt.Sprintf("bytes 0-%d/%d", 1<<20-1, size), 0, 1<<20), 2},
		"a part of another blob":        {middle, otherRange(fmt.Sprintf("bytes %d-%d/%d", 1<<20, 2<<20-1, size+1), 1<<20, 2<<20), 2},
		"a part that is shorter":        {middle, otherRange(fmt.Sprintf("bytes %d-%d/%d", 1<<20, 1<<20+9, size), 1<<20, 1<<20+10), 2},
		"a part without Content-Range":  {middle, otherRange("", 1<<20, 2<<20), 2},
		"of unknown size":               {middle, otherRange(fmt.Sprintf("bytes %d-%d/*", 1<<20, 2<<20-1), 1<<20, 2<<20), 1},
		"short, without a length":       {full, inTurn(lying(1<<20, false), whole), 2},
		"cut, then 503":                 {full, inTurn(cutAfter(1<<20), status(503), status(503), whole), 4},
		"cut, then 500s for longer":     {full, inTurn(cutAfter(1<<20), status(500), status(500), status(500), status(500), status(500), whole), 7},
		"another length at first":       {full, inTurn(lying(10, true), whole), 2},
		"cut, then another length":      {full, inTurn(cutAfter(1<<20), ignoringRange(lying(10, true)), whole), 3},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, test.server)
			c, _ := newClient(t, listed(s))
			location, body, err := c.Repository(image).Stream(t.Context(), bigDesc, test.span, false)
			if err != nil || location != "" {
				t.Fatalf("%q, %v", location, err)
			}
			defer body.Close()
			data, err := io.ReadAll(body)
			if err != nil {
				t.Fatal(err)
			}
			if want := bigBlob[test.span.Offset:test.span.end()]; !bytes.Equal(data, want) {
				t.Fatalf("%d bytes that are not the span's %d", len(data), len(want))
			}
			if got := len(s.TakeLines()); got != test.asked {
				t.Errorf("%d requests, want %d", got, test.asked)
			}
		})
	}
}

func TestStreamEnds(t *testing.T) {
	full := Span{0, bigDesc.Size}
	for name, test := range map[string]struct {
		server http.HandlerFunc
		atOpen bool
		kind   Kind
		says   string
	}{
		"absent":                  {status(404), true, NotFound, "does not exist"},
		"too short":               {lying(10, true), true, Invalid, "sent 10 bytes, but the manifest says 3145728"},
		"too long":                {lying(len(bigBlob)+1, true), true, Invalid, "sent 3145729 bytes, but"},
		"always cut":              {cutAfter(1000), false, Invalid, "cut the answer off"},
		"short without a length":  {ignoringRange(lying(10, false)), false, Invalid, "cut the answer off"},
		"long without a length":   {ignoringRange(lying(len(bigBlob)+1, false)), false, Invalid, "sends more than the 3145728 bytes"},
		"twice as long":           {ignoringRange(lying(2*len(bigBlob), false)), false, Invalid, "sends more than the 3145728 bytes"},
		"cut, then long":          {inTurn(cutAfter(1<<20), ignoringRange(lying(len(bigBlob)+7, false))), false, Invalid, "sends more than"},
		"cut, then absent":        {inTurn(cutAfter(1<<20), status(404)), false, NotFound, "does not exist"},
		"cut, then denied":        {inTurn(cutAfter(1<<20), status(403)), false, Unauthorized, "answered 403"},
		"cut, then always 500":    {inTurn(cutAfter(1<<20), status(500)), false, Failed, "answered 500"},
		"cut, then wrong lengths": {inTurn(cutAfter(1<<20), ignoringRange(lying(10, true))), false, Invalid, "sent 10 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, test.server)
			c, _ := newClient(t, listed(s))
			_, body, err := c.Repository(image).Stream(t.Context(), bigDesc, full, false)
			if (err != nil) != test.atOpen {
				t.Fatalf("when opened: %v", err)
			}
			if err == nil {
				defer body.Close()
				_, err = io.Copy(io.Discard, body)
			}
			wantError(t, err, test.kind, test.says)
			if n := len(s.TakeLines()); n > 40 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// TestStreamOfALongerBlob: what comes of a blob that is longer than the manifest says is
// never as long as it says.
func TestStreamOfALongerBlob(t *testing.T) {
	for _, size := range []int64{1, 1 << 10, 1<<20 + 1, bigDesc.Size - 1} {
		c, _ := newClient(t, listed(newServer(t, ignoringRange(lying(len(bigBlob), false)))))
		desc := bigDesc
		desc.Size = size
		_, body, err := c.Repository(image).Stream(t.Context(), desc, Span{0, size}, false)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, body)
		wantError(t, err, Invalid, "sends more than")
		if body.Close(); n >= size {
			t.Errorf("%d bytes came, which look like the whole of %d", n, size)
		}
	}
}

// TestStreamHonoursRetryAfter: a stream waits as long as the upstream asks in the
// middle of a blob, up to a minute.
func TestStreamHonoursRetryAfter(t *testing.T) {
	limited := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "20")
		w.WriteHeader(http.StatusTooManyRequests)
	}
	s := newServer(t, inTurn(cutAfter(1<<20), limited, whole))
	c, waits := newClient(t, listed(s))
	_, body, err := c.Repository(image).Stream(t.Context(), bigDesc, Span{0, bigDesc.Size}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if data, err := io.ReadAll(body); err != nil || !bytes.Equal(data, bigBlob) {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
	if got := waits.All(); len(got) != 2 || got[0] != 0 || got[1] != 20*time.Second {
		t.Errorf("waited %v, want nothing and then 20s", got)
	}
}

func TestStreamStalls(t *testing.T) {
	release := make(chan struct{})
	stalling := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(bigBlob)))
		_, _ = w.Write(bigBlob[:1<<20])
		_ = http.NewResponseController(w).Flush()
		<-release
	}
	s := newServer(t, inTurn(stalling, whole))
	t.Cleanup(func() { close(release) })
	c, _ := newClient(t, listed(s))
	c.idleTimeout = 50 * time.Millisecond
	_, body, err := c.Repository(image).Stream(t.Context(), bigDesc, Span{0, bigDesc.Size}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if data, err := io.ReadAll(body); err != nil || !bytes.Equal(data, bigBlob) {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
}

func TestStreamEndsWithItsContext(t *testing.T) {
	s := newServer(t, cutAfter(1<<20))
	c, _ := newClient(t, listed(s))
	ctx, cancel := context.WithCancel(t.Context())
	_, body, err := c.Repository(image).Stream(ctx, bigDesc, Span{0, bigDesc.Size}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if _, err := io.ReadFull(body, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.Copy(io.Discard, body); err == nil {
		t.Fatal("a canceled stream ended well")
	}
	if got := s.TakeLines(); len(got) != 1 {
		t.Errorf("requests %q, want no second one", got)
	}
}

// TestStreamOverTLS: a registry that offers HTTP/2 breaks its answers over HTTP/1.1.
func TestStreamOverTLS(t *testing.T) {
	var protocol atomic.Value
	next := inTurn(cutAfter(1<<20), cutAfter(1<<20), whole)
	s := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		protocol.Store(r.Proto)
		next(w, r)
	}, func(s *httptest.Server) {
		s.EnableHTTP2 = true
		s.StartTLS()
	})
	c, _ := newClient(t, Options{Registries: map[string]Registry{"example.org": {URL: s.URL, CA: certificate(t, s)}}})
	_, body, err := c.Repository(image).Stream(t.Context(), bigDesc, Span{0, bigDesc.Size}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if data, err := io.ReadAll(body); err != nil || !bytes.Equal(data, bigBlob) {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
	if protocol.Load() != "HTTP/1.1" {
		t.Errorf("spoke %v", protocol.Load())
	}
}

func TestStreamRedirect(t *testing.T) {
	storage := newServer(t, whole)
	for name, test := range map[string]struct {
		location, want string // "" for a body
		kind           Kind
	}{
		"elsewhere":             {"https://cdn.example.org/data?signature=1", "https://cdn.example.org/data?signature=1", 0},
		"to a listed host":      {storage.URL + "/data?signature=1", storage.URL + "/data?signature=1", 0},
		"at the registry":       {"/elsewhere", "", 0},
		"to a private address":  {"http://127.0.0.1:1/data", "", Forbidden},
		"to the metadata":       {"http://169.254.169.254/latest", "", Forbidden},
		"to a private, IPv6":    {"http://[::1]:1/data", "", Forbidden},
		"to a mapped address":   {"http://[::ffff:10.0.0.1]/data", "", Forbidden},
		"to localhost":          {"http://localhost:1/data", "", Forbidden},
		"to a short address":    {"http://127.1:1/data", "", Unresolvable},
		"to one number":         {"http://0x7f000001:1/data", "", Unresolvable},
		"with a user name":      {"https://user:password@cdn.example.org/data", "", Forbidden},
		"to another protocol":   {"ftp://cdn.example.org/data", "", Forbidden},
		"to a name, same thing": {"http://cdn.example.org:8080/data", "http://cdn.example.org:8080/data", 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, "/v2/") {
					w.Header().Set("Location", test.location)
					w.WriteHeader(http.StatusTemporaryRedirect)
					return
				}
				whole(w, r)
			})
			c, _ := newClient(t, Options{Registries: map[string]Registry{"example.org": {URL: s.URL, Redirect: true}, "storage.example.org": {URL: storage.URL}}})
			location, body, err := c.Repository(image).Stream(t.Context(), bigDesc, Span{0, bigDesc.Size}, true)
			if body != nil {
				defer body.Close()
			}
			if test.kind != 0 {
				wantError(t, err, test.kind)
				return
			}
			if err != nil || location != test.want || (body != nil) != (test.want == "") {
				t.Errorf("location %q, body %v, %v", location, body != nil, err)
			}
			if got := storage.TakeLines(); len(got) != 0 {
				t.Errorf("the storage was asked: %q", got)
			}
		})
	}
}
