package integration

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
)

// TestAttackLyingBlobs has a registry send layers that are not as long as its
// manifest says, when an image is pulled. What is wrong is told, or the
// connection breaks; in no case does the client get a whole answer that is not
// the length it should be.
func TestAttackLyingBlobs(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	p := startProxy(t, "", h.settings())
	archive := h.Layer.archive
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
		whole  bool // whether the client must get all of it
	}
	attacks := map[string]attack{}
	for name, test := range map[string]attack{
		"honest":                 {sized(size, archive), 200, true},
		"honest, in chunks":      {chunked(archive), 200, true},
		"a byte more":            {sized(size+1, append(bytes.Clone(archive), 0)), 502, false},
		"a byte less":            {sized(size-1, archive[:size-1]), 502, false},
		"nothing":                {sized(0, nil), 502, false},
		"a terabyte":             {sized(1<<40, archive), 502, false},
		"cut off":                {sized(size, archive[:size-1]), 200, false},
		"a byte less, in chunks": {chunked(archive[:size-1]), 200, false},
		"nothing, in chunks":     {chunked(nil), 200, false},
		"without an end":         {func(w http.ResponseWriter, _ *http.Request) { endless(w, "", "x") }, 200, false},
		"a part, unasked": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusPartialContent)
			endless(w, "", "x")
		}, 502, false},
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
	// All at once, so that what is asked for again does not add up.
	results, wg := map[string]*received{}, sync.WaitGroup{}
	for name := range attacks {
		a := p.augment(t, map[string]any{"containerImage": h.host() + "/" + repositoryOf(name) + ":x", "containerConfig": config{Env: []string{"A=b"}}})
		results[name] = &received{}
		wg.Go(func() {
			results[name].get(fmt.Sprintf("%s/v2/wt/%s/%s/blobs/%s", p.URL, a.ContainerToken, repositoryOf(name), h.Layer.GzipDigest))
		})
	}
	wg.Wait()
	for name, test := range attacks {
		t.Run(name, func(t *testing.T) {
			r := results[name]
			if r.status == 0 && !test.whole && test.status == http.StatusOK {
				return // it broke before the first byte
			}
			if r.status != test.status {
				t.Errorf("OPEN DOOR: status %d, want %d: %.80q, %v", r.status, test.status, r.body, r.err)
			}
			whole := r.err == nil && len(r.body) == size
			if r.status == http.StatusOK && (r.length != int64(size) || r.err == nil && !whole || test.whole && !whole) {
				t.Errorf("OPEN DOOR: %d bytes of %d (%v), and the layer has %d", len(r.body), r.length, r.err, size)
			}
			if r.status == http.StatusOK && r.header.Get("Docker-Content-Digest") != h.Layer.GzipDigest {
				t.Errorf("digest %q", r.header.Get("Docker-Content-Digest"))
			}
			for header := range r.header {
				if strings.Contains(r.header.Get(header), "evil") || r.header.Get("Content-Type") == "text/html" {
					t.Errorf("OPEN DOOR: the registry's header came through: %s: %s", header, r.header.Get(header))
				}
			}
			if _, taken := h.result(t, repositoryOf(name)); taken > mib+10*kernelHolds(t) {
				t.Errorf("OPEN DOOR: %d bytes were taken", taken)
			}
		})
	}
	wantAlive(t, p, h.host()+"/good:x")
}

// received is an answer that may have broken off.
type received struct {
	response
	length int64 // as the headers say
	err    error
}

func (r *received) get(url string) {
	resp, err := http.Get(url)
	if err != nil {
		r.err = err
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, mib))
	*r = received{response{resp.StatusCode, resp.Header, string(body)}, resp.ContentLength, err}
}

// TestAttackLyingRanges has a registry send other parts of a layer than it was
// asked for.
func TestAttackLyingRanges(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	p := startProxy(t, "", h.settings())
	archive, size := h.Layer.archive, len(h.Layer.archive)
	for name, test := range map[string]struct {
		contentRange string
		body         []byte
		status       int
	}{
		"honest":                 {fmt.Sprintf("bytes 10-19/%d", size), archive[10:20], 206},
		"another part":           {fmt.Sprintf("bytes 20-29/%d", size), archive[20:30], 502},
		"a longer part":          {fmt.Sprintf("bytes 10-29/%d", size), archive[10:30], 502},
		"of a longer layer":      {fmt.Sprintf("bytes 10-19/%d", size+1), archive[10:20], 502},
		"more than it says":      {fmt.Sprintf("bytes 10-19/%d", size), archive[10:30], 502},
		"nothing about the part": {"", archive[10:20], 502},
		"no number":              {"bytes x-y/z", archive[10:20], 502},
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
			a := p.augment(t, map[string]any{"containerImage": h.host() + "/" + repository + ":x", "containerConfig": config{Env: []string{"A=b"}}})
			r := do(t, http.MethodGet, fmt.Sprintf("%s/v2/wt/%s/%s/blobs/%s", p.URL, a.ContainerToken, repository, h.Layer.GzipDigest), "Range", "bytes=10-19")
			if r.status != test.status {
				t.Errorf("OPEN DOOR: status %d, want %d: range %q with %d bytes", r.status, test.status, r.header.Get("Content-Range"), len(r.body))
			}
		})
	}
}

// TestAttackBaseLayers has base images whose bottom layer, which is read for
// the links in it, never ends.
func TestAttackBaseLayers(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	// Its entries make the server look for links in the base image.
	injected := config{Layers: []testLayer{layerOf(t, file{name: "bin/tool", mode: 0o755, text: "x"})}}
	entry := []byte(nil)
	for range 1000 {
		entry = append(entry, tarOf(t, tar.Header{Name: "a", Typeflag: tar.TypeReg})[:512]...)
	}
	empty := gzipped(t, 1, nil)
	for name, unit := range map[string][]byte{
		"entries":         gzipped(t, 1, entry),
		"zeros":           gzipped(t, 1, make([]byte, mib)),
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
			r := wantAnswered(t, p, pid, string(mustJSON(t, map[string]any{"containerImage": h.host() + "/" + repository + ":x", "containerConfig": injected})), patience, 256)
			if r.status != http.StatusOK && r.status != http.StatusBadRequest && r.status != http.StatusBadGateway {
				t.Errorf("status %d: %s", r.status, r.body)
			}
			// The limit is 256 MiB unpacked, and nothing is packed worse than it is.
			if _, taken := h.result(t, repository); taken > 260*mib+kernelHolds(t) {
				t.Errorf("OPEN DOOR: %d bytes were taken", taken)
			}
		})
	}
}
