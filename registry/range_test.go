package registry

import (
	"fmt"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/blobstore/cache"
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
