package registry

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore/cache"
	"github.com/waveproxy/waveproxy/upstream"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// TestRangesOfAllSources: ranges and conditions have the same answers, whichever
// source a blob comes from.
func TestRangesOfAllSources(t *testing.T) {
	f := newFixture(t)
	kept, err := cache.Open(t.TempDir(), 64<<20, f.server.options.Log)
	if err != nil {
		t.Fatal(err)
	}
	base := f.server.blobs
	for name, source := range map[string]struct {
		url   string
		size  int64
		cache bool
	}{
		"injected": {f.blobURL(f.layer.Digest), f.layer.Size, false},
		"upstream": {f.url(), int64(len(f.blob)), false},
		"cache":    {f.url(), int64(len(f.blob)), true},
	} {
		f.server.blobs = base
		if source.cache {
			f.server.blobs = append(blobSources{newCachedBlobs(kept, f.server.options.Upstream)}, base...)
			f.do(t, "GET", source.url)
		}
		etag := `"` + source.url[strings.LastIndexByte(source.url, '/')+1:] + `"`
		outside := fmt.Sprintf("bytes */%d", source.size)
		for _, test := range []struct {
			method string
			header []string
			status int
			ranged string
		}{
			{"GET", []string{"Range", "bytes=-0"}, 416, outside},
			{"GET", []string{"Range", "bytes=9223372036854775808-"}, 416, outside},
			{"GET", []string{"Range", "bytes=5-1"}, 416, outside},
			{"GET", []string{"Range", "bytes=1-9223372036854775808"}, 206, fmt.Sprintf("bytes 1-%d/%d", source.size-1, source.size)},
			{"GET", []string{"Range", "bytes=-9223372036854775808"}, 206, fmt.Sprintf("bytes 0-%d/%d", source.size-1, source.size)},
			{"GET", []string{"Range", "bytes=0-0,2-3"}, 200, ""},
			{"HEAD", []string{"Range", "bytes=-0"}, 200, ""},
			{"HEAD", []string{"Range", "bytes=0-0"}, 200, ""},
			{"GET", []string{"Range", "bytes=0-0", "If-Range", etag}, 206, fmt.Sprintf("bytes 0-0/%d", source.size)},
			{"GET", []string{"Range", "bytes=0-0", "If-Range", `"x"`}, 200, ""},
			{"GET", []string{"If-Match", `"x"`}, 412, ""},
			{"HEAD", []string{"If-Match", etag}, 200, ""},
			{"GET", []string{"If-None-Match", etag}, 304, ""},
		} {
			resp, body, err := f.do(t, test.method, source.url, test.header...)
			if err != nil || resp.StatusCode != test.status || resp.Header.Get("Content-Range") != test.ranged {
				t.Errorf("%s: %s %q: status %d, Content-Range %q, %v; want %d, %q", name, test.method, test.header, resp.StatusCode, resp.Header.Get("Content-Range"), err, test.status, test.ranged)
			}
			if test.status == 200 && resp.ContentLength != source.size {
				t.Errorf("%s: %s %q: %d bytes of %d", name, test.method, test.header, resp.ContentLength, source.size)
			}
			if test.status >= 400 && (resp.Header.Get("Content-Type") != "application/json" || !strings.Contains(string(body), `"errors"`)) {
				t.Errorf("%s: %s %q: %s is no OCI error", name, test.method, test.header, body)
			}
		}
	}
	if err := kept.Close(); err != nil {
		t.Error(err)
	}
}

// TestRangeOfWholeBlobs: a registry that ignores ranges has a range that begins far
// inside answered with the whole blob, which costs it and this server one answer.
func TestRangeOfWholeBlobs(t *testing.T) {
	const size = 20 << 20
	registry := upstreamtest.New(t)
	registry.Answer(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(size))
		_, _ = w.Write(make([]byte, size))
	})
	client, err := upstream.New(upstream.Options{Registries: map[string]upstream.Registry{"example.org": {URL: registry.URL}}, Wait: new(upstreamtest.Pauses).Wait})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	desc := ocispec.Descriptor{Digest: digest.FromString("large"), Size: size}
	img := &image{target: auth.Target{Registry: "example.org", Repository: "app"}, upstream: descriptors{}, late: newLate()}
	img.upstream.add(desc)
	for header, want := range map[string]int{"bytes=20971519-": http.StatusOK, "bytes=-1": http.StatusOK, "bytes=1000-1999": http.StatusPartialContent} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Range", header)
		w := httptest.NewRecorder()
		registry.TakeRequests()
		if err := (streamedBlobs{client}).serveBlob(w, r, img, desc.Digest); err != nil {
			t.Fatal(header, err)
		}
		length := map[int]int{http.StatusOK: size, http.StatusPartialContent: 1000}[want]
		if w.Code != want || w.Body.Len() != length || w.Header().Get("Content-Length") != strconv.Itoa(length) || (w.Header().Get("Content-Range") == "") != (want == http.StatusOK) {
			t.Errorf("%s: status %d, %d bytes, headers %v", header, w.Code, w.Body.Len(), w.Header())
		}
	}
}
