package upstream

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// TestWhole: a whole blob is verified, whatever size its descriptor has, and a broken answer
// goes on.
func TestWhole(t *testing.T) {
	data := bytes.Repeat([]byte("some bytes of a layer "), 20_000)
	served := upstreamtest.Object{Data: data}
	d := digest.FromBytes(data)
	halfway := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "440000")
		_, _ = w.Write(data[:300_000])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		d       ocispec.Descriptor
		kind    Kind // 0: it is read
		says    string
	}{
		"right":            {served.ServeHTTP, ocispec.Descriptor{Digest: d, Size: int64(len(data))}, 0, ""},
		"no size":          {served.ServeHTTP, ocispec.Descriptor{Digest: d}, 0, ""},
		"another size":     {served.ServeHTTP, ocispec.Descriptor{Digest: d, Size: 12}, 0, ""},
		"breaks":           {inTurn(halfway, served.ServeHTTP), ocispec.Descriptor{Digest: d, Size: int64(len(data))}, 0, ""},
		"other bytes":      {served.ServeHTTP, ocispec.Descriptor{Digest: digest.FromString("x"), Size: int64(len(data))}, Invalid, "another digest, " + d.String()},
		"other, no size":   {served.ServeHTTP, ocispec.Descriptor{Digest: digest.FromString("x")}, Invalid, "another digest, " + d.String()},
		"absent":           {status(404), ocispec.Descriptor{Digest: d, Size: 5}, NotFound, "@" + d.String()},
		"not a digest":     {served.ServeHTTP, ocispec.Descriptor{Digest: "sha256:x"}, Invalid, "not a digest"},
		"breaks, no size":  {halfway, ocispec.Descriptor{Digest: d}, Invalid, "cut the answer off"},
		"half, no size":    {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data[:9]) }, ocispec.Descriptor{Digest: d}, Invalid, "another digest"},
		"empty, a digest":  {func(http.ResponseWriter, *http.Request) {}, ocispec.Descriptor{Digest: d, Size: 1}, Invalid, ""},
		"half, whole size": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data[:9]) }, ocispec.Descriptor{Digest: d, Size: 9}, Invalid, "another digest"},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := newClient(t, listed(newServer(t, test.handler)))
			body, err := c.Repository(image).Whole(t.Context(), test.d)
			var read []byte
			if err == nil {
				defer body.Close()
				read, err = io.ReadAll(body)
			}
			if test.kind != 0 {
				wantError(t, err, test.kind, test.says)
			} else if err != nil || !bytes.Equal(read, data) {
				t.Errorf("%d bytes, %v", len(read), err)
			}
		})
	}
}

// TestPart: one request brings a part of a blob, and a registry that sends anything else is
// not listened to.
func TestPart(t *testing.T) {
	data := []byte("0123456789")
	served := upstreamtest.Object{Data: data}
	answer := func(code int, contentRange, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", contentRange)
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		}
	}
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		kind    Kind // 0: it is read
	}{
		"right":         {served.ServeHTTP, 0},
		"unknown size":  {answer(206, "bytes 3-6/*", "3456"), 0},
		"whole":         {answer(200, "", "0123456789"), Invalid},
		"another part":  {answer(206, "bytes 2-5/10", "2345"), Invalid},
		"another blob":  {answer(206, "bytes 3-6/11", "3456"), Invalid},
		"more than it":  {answer(206, "bytes 3-6/10", "3456789"), Invalid},
		"unsatisfiable": {status(416), Failed},
		"absent":        {status(404), NotFound},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, test.handler)
			c, _ := newClient(t, listed(s))
			body, err := c.Repository(image).Part(t.Context(), ocispec.Descriptor{Digest: digest.FromBytes(data), Size: 10}, Span{3, 4})
			if n := len(s.TakeRequests()); n != 1 {
				t.Errorf("%d requests", n)
			}
			if test.kind != 0 {
				wantError(t, err, test.kind)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer body.Close()
			if read, err := io.ReadAll(body); err != nil || string(read) != "3456" {
				t.Errorf("%q, %v", read, err)
			}
		})
	}
}
