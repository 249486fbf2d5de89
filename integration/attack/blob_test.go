package attack

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/waveproxy/waveproxy/integration/harness"
)

// TestAttackLyingBlobs pulls an image from a registry whose layers are not as
// long as its manifest says. The server refuses the pull or breaks the
// connection. The client never gets a complete answer of a wrong length.
func TestAttackLyingBlobs(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	p := harness.StartProxy(t, "", h.settings())
	archive := h.Layer.Archive
	size := len(archive)
	sized := func(n int, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(n))
			_, _ = w.Write(body)
		}
	}
	chunked := func(body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(body)
		}
	}
	type attack struct {
		blob   http.HandlerFunc
		status int
		whole  bool // whether the client must get the complete layer
	}
	attacks := map[string]attack{}
	for name, test := range map[string]attack{
		"honest":                 {sized(size, archive), 200, true},
		"honest, in chunks":      {chunked(archive), 200, true},
		"a byte more":            {sized(size+1, append(bytes.Clone(archive), 0)), 403, false},
		"a byte less":            {sized(size-1, archive[:size-1]), 403, false},
		"nothing":                {sized(0, nil), 403, false},
		"a terabyte":             {sized(1<<40, archive), 403, false},
		"cut off":                {sized(size, archive[:size-1]), 200, false},
		"a byte less, in chunks": {chunked(archive[:size-1]), 200, false},
		"nothing, in chunks":     {chunked(nil), 200, false},
		"without an end":         {func(w http.ResponseWriter, _ *http.Request) { endless(w, "", "x") }, 200, false},
		"a part, unasked": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusPartialContent)
			endless(w, "", "x")
		}, 403, false},
		"a page": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			endless(w, "", "<html>")
		}, 403, false},
		"headers of its own": {func(w http.ResponseWriter, r *http.Request) {
			for _, name := range []string{"Set-Cookie", "Location", "Www-Authenticate", "Access-Control-Allow-Origin", "Docker-Content-Digest", "X-Evil", "Content-Encoding", "Etag", "Content-Disposition"} {
				w.Header().Set(name, "evil")
			}
			w.Header().Set("Content-Type", "text/html")
			sized(size, archive)(w, r)
		}, 200, true},
	} {
		attacks[name] = test
		h.on(repositoryOf(name), func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, h.Layer.GzipDigest) {
				test.blob(w, r)
				return
			}
			h.tinyImage.ServeHTTP(w, r)
		})
	}
	// All at once, because each case waits for retries.
	results, wg := map[string]*received{}, sync.WaitGroup{}
	for name := range attacks {
		a := p.Augment(t, map[string]any{"containerImage": h.host() + "/" + repositoryOf(name) + ":x", "containerConfig": harness.Config{Env: []string{"A=b"}}})
		results[name] = &received{}
		wg.Go(func() {
			results[name].get(fmt.Sprintf("%s/v2/wt/%s/%s/blobs/%s", p.URL, a.ContainerToken, repositoryOf(name), h.Layer.GzipDigest))
		})
	}
	wg.Wait()
	for name, test := range attacks {
		t.Run(name, func(t *testing.T) {
			r := results[name]
			if r.Status == 0 && !test.whole && test.status == http.StatusOK {
				return // the connection broke before the first byte
			}
			if r.Status != test.status {
				t.Errorf("BREACH: status %d, want %d: %.80q, %v", r.Status, test.status, r.Body, r.err)
			}
			whole := r.err == nil && len(r.Body) == size
			if r.Status == http.StatusOK && (r.length != int64(size) || r.err == nil && !whole || test.whole && !whole) {
				t.Errorf("BREACH: got %d bytes of an announced %d (%v), want %d", len(r.Body), r.length, r.err, size)
			}
			if r.Status == http.StatusOK && r.Header.Get("Docker-Content-Digest") != h.Layer.GzipDigest {
				t.Errorf("digest %q", r.Header.Get("Docker-Content-Digest"))
			}
			for header := range r.Header {
				if strings.Contains(r.Header.Get(header), "evil") || r.Header.Get("Content-Type") == "text/html" {
					t.Errorf("BREACH: the server passed on the registry's header %s: %s", header, r.Header.Get(header))
				}
			}
			if _, taken := h.result(t, repositoryOf(name)); taken > harness.MiB+10*kernelHolds(t) {
				t.Errorf("BREACH: the server read %d bytes", taken)
			}
		})
	}
	wantAlive(t, p, h.host()+"/good:x")
}

// received is an answer that may have broken off.
type received struct {
	harness.Response
	length int64 // as announced in the headers
	err    error
}

func (r *received) get(url string) {
	resp, err := http.Get(url)
	if err != nil {
		r.err = err
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, harness.MiB))
	*r = received{harness.Response{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}, resp.ContentLength, err}
}

// TestAttackLyingRanges has a registry send other parts of a layer than the
// server requested.
func TestAttackLyingRanges(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	p := harness.StartProxy(t, "", h.settings())
	archive, size := h.Layer.Archive, len(h.Layer.Archive)
	for name, test := range map[string]struct {
		contentRange string
		body         []byte
		status       int
	}{
		"honest":                 {fmt.Sprintf("bytes 10-19/%d", size), archive[10:20], 206},
		"another part":           {fmt.Sprintf("bytes 20-29/%d", size), archive[20:30], 403},
		"a longer part":          {fmt.Sprintf("bytes 10-29/%d", size), archive[10:30], 403},
		"of a longer layer":      {fmt.Sprintf("bytes 10-19/%d", size+1), archive[10:20], 403},
		"more than it says":      {fmt.Sprintf("bytes 10-19/%d", size), archive[10:30], 403},
		"nothing about the part": {"", archive[10:20], 403},
		"no number":              {"bytes x-y/z", archive[10:20], 403},
	} {
		t.Run(name, func(t *testing.T) {
			repository := repositoryOf(name)
			h.on(repository, func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasSuffix(r.URL.Path, h.Layer.GzipDigest) {
					h.tinyImage.ServeHTTP(w, r)
					return
				}
				w.Header().Set("Content-Range", test.contentRange)
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write(test.body)
			})
			a := p.Augment(t, map[string]any{"containerImage": h.host() + "/" + repository + ":x", "containerConfig": harness.Config{Env: []string{"A=b"}}})
			r := harness.Do(t, http.MethodGet, fmt.Sprintf("%s/v2/wt/%s/%s/blobs/%s", p.URL, a.ContainerToken, repository, h.Layer.GzipDigest), "Range", "bytes=10-19")
			if r.Status != test.status {
				t.Errorf("BREACH: status %d, want %d: range %q with %d bytes", r.Status, test.status, r.Header.Get("Content-Range"), len(r.Body))
			}
		})
	}
}

// TestAttackBaseLayers has base images whose bottom layer never ends, whatever size its
// manifest gives. The server reads that layer for its links and directories.
func TestAttackBaseLayers(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	// Its entries make the server look for links in the base image.
	injected := harness.Config{Layers: []harness.Layer{harness.LayerOf(t, harness.File{Name: "bin/tool", Mode: 0o755, Text: "x"})}}
	entry := []byte(nil)
	for range 1000 {
		entry = append(entry, tarOf(t, tar.Header{Name: "a", Typeflag: tar.TypeReg})[:512]...)
	}
	empty := gzipped(t, 1, nil)
	for name, unit := range map[string][]byte{
		"entries":         gzipped(t, 1, entry),
		"zeros":           gzipped(t, 1, make([]byte, harness.MiB)),
		"nothing by gzip": bytes.Repeat(empty, 1000),
		"nothing by zstd": bytes.Repeat([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x20, 0, 1, 0, 0}, 1000),
		"skipped by zstd": bytes.Repeat([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x20, 0, 1, 0, 0, 0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 0}, 1000),
		"no archive":      bytes.Repeat([]byte("<html>"), 1000),
	} {
		t.Run(name, func(t *testing.T) {
			repository := repositoryOf(name)
			h.on(repository, func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, h.Layer.GzipDigest) {
					endless(w, "", string(unit))
					return
				}
				h.tinyImage.ServeHTTP(w, r)
			})
			p, pid := impatient(t, h.settings())
			r := wantAnswered(t, p, pid, string(harness.MustJSON(t, map[string]any{"containerImage": h.host() + "/" + repository + ":x", "containerConfig": injected})), patience, 256)
			if r.Status != http.StatusOK && r.Status != http.StatusBadRequest && r.Status != http.StatusForbidden && r.Status != http.StatusBadGateway {
				t.Errorf("status %d: %s", r.Status, r.Body)
			}
			if _, taken := h.result(t, repository); taken > 260*harness.MiB+kernelHolds(t) {
				t.Errorf("BREACH: the server read %d bytes", taken)
			}
		})
	}
}
