package registry

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

func TestUpstreamBlob(t *testing.T) {
	f := newFixture(t)
	size := len(f.blob)
	etag := `"` + digest.FromBytes(f.blob).String() + `"`
	for name, test := range map[string]struct {
		method       string
		header       []string
		status       int
		body         []byte
		contentRange string
		upstream     int // requests that reach it
	}{
		"whole":          {"GET", nil, 200, f.blob, "", 1},
		"head":           {"HEAD", nil, 200, nil, "", 0},
		"not modified":   {"GET", []string{"If-None-Match", `"x", ` + etag}, 304, nil, "", 0},
		"from to":        {"GET", []string{"Range", "bytes=5-9"}, 206, f.blob[5:10], fmt.Sprintf("bytes 5-9/%d", size), 1},
		"open end":       {"GET", []string{"Range", fmt.Sprintf("bytes=%d-", size-3)}, 206, f.blob[size-3:], fmt.Sprintf("bytes %d-%d/%d", size-3, size-1, size), 1},
		"all":            {"GET", []string{"Range", "bytes=0-"}, 206, f.blob, fmt.Sprintf("bytes 0-%d/%d", size-1, size), 1},
		"suffix":         {"GET", []string{"Range", "bytes=-4"}, 206, f.blob[size-4:], fmt.Sprintf("bytes %d-%d/%d", size-4, size-1, size), 1},
		"past the end":   {"GET", []string{"Range", fmt.Sprintf("bytes=%d-", size)}, 416, nil, fmt.Sprintf("bytes */%d", size), 0},
		"ignored range":  {"GET", []string{"Range", "lines=1-2"}, 200, f.blob, "", 1},
		"many ranges":    {"GET", []string{"Range", "bytes=0-1,5-9"}, 200, f.blob, "", 1},
		"zstd offered":   {"GET", []string{"Accept-Encoding", "zstd, gzip"}, 200, f.blob, "", 1},
		"if-range holds": {"GET", []string{"Range", "bytes=0-0", "If-Range", etag}, 206, f.blob[:1], fmt.Sprintf("bytes 0-0/%d", size), 1},
	} {
		t.Run(name, func(t *testing.T) {
			f.upstream.TakeRequests()
			resp, body, err := f.do(t, test.method, f.url(), test.header...)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != test.status || resp.Header.Get("Content-Range") != test.contentRange {
				t.Errorf("status %d, range %q; want %d, %q", resp.StatusCode, resp.Header.Get("Content-Range"), test.status, test.contentRange)
			}
			if test.method == "GET" && test.status < 300 && !bytes.Equal(body, test.body) {
				t.Errorf("%d bytes, want %d", len(body), len(test.body))
			}
			if test.status == 200 && resp.Header.Get("Content-Length") != strconv.Itoa(size) {
				t.Errorf("length %s, want %d", resp.Header.Get("Content-Length"), size)
			}
			if test.status != 416 && resp.Header.Get("Etag") != etag {
				t.Errorf("ETag %s, want %s", resp.Header.Get("Etag"), etag)
			}
			if n := len(f.upstream.TakeRequests()); n != test.upstream {
				t.Errorf("%d upstream requests, want %d", n, test.upstream)
			}
		})
	}
}

// TestHeadersDoNotPass: a client's headers do not reach the upstream, and the
// upstream's headers do not reach the client.
func TestHeadersDoNotPass(t *testing.T) {
	f := newFixture(t)
	resp, _, err := f.do(t, "GET", f.url(), "Authorization", "Bearer ours", "Cookie", "a=b", "X-Forwarded-For", "10.1.1.1", "Referer", "http://x", "Accept-Encoding", "gzip", "If-None-Match", `"x"`)
	if err != nil {
		t.Fatal(err)
	}
	sent := f.upstream.TakeRequests()[0]
	for name := range sent.Header {
		if name != "User-Agent" && sent.Header.Get(name) != "identity" {
			t.Errorf("the upstream got %s: %q", name, sent.Header[name])
		}
	}
	if strings.Contains(fmt.Sprint(sent.URL, sent.RequestURI), string(testToken)) {
		t.Error("the upstream got the token")
	}
	if resp.Header.Get("Set-Cookie") != "" || resp.Header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("the client got the upstream's headers: %v", resp.Header)
	}
}

// TestBlobFailures: a failure of the upstream becomes an error of the OCI
// specification, without the body of the answer.
func TestBlobFailures(t *testing.T) {
	f := newFixture(t)
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		status int
		code   string
	}{
		"rate limited": {upstreamtest.Status(429, "Retry-After", "77"), 429, "TOOMANYREQUESTS"},
		"absent":       {upstreamtest.Status(404), 404, "UNKNOWN"},
		"unauthorized": {upstreamtest.Status(401, "Www-Authenticate", `Basic realm="x"`), 403, "DENIED"},
		"forbidden":    {upstreamtest.Status(403), 403, "DENIED"},
		"wrong length": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(f.blob[:100]) }, 403, "DENIED"},
		"redirect to private address": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/blob", http.StatusTemporaryRedirect)
		}, 403, "DENIED"},
	} {
		t.Run(name, func(t *testing.T) {
			f.answerBlob(test.answer)
			resp, body, err := f.do(t, "GET", f.url())
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != test.status || !strings.Contains(string(body), test.code) {
				t.Errorf("status %d, body %s; want %d, %s", resp.StatusCode, body, test.status, test.code)
			}
			if test.status == 429 && resp.Header.Get("Retry-After") != "77" {
				t.Errorf("Retry-After %q, want the upstream's 77", resp.Header.Get("Retry-After"))
			}
			if strings.Contains(string(body), upstreamtest.ErrorBody) {
				t.Error("the upstream's body reached the client")
			}
			if resp.Header.Get("Docker-Content-Digest") != "" || resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Etag") != "" {
				t.Errorf("the error has the blob's headers: %v", resp.Header)
			}
		})
	}
}

// TestCutBlob: a body that the upstream cuts, or makes too long, never looks whole.
func TestCutBlob(t *testing.T) {
	f := newFixture(t)
	for name, answer := range map[string]http.HandlerFunc{
		"reset": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(len(f.blob)))
			_, _ = w.Write(f.blob[:len(f.blob)/2])
			panic(http.ErrAbortHandler)
		},
		"short and chunked": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(f.blob[:len(f.blob)/2])
			_ = http.NewResponseController(w).Flush()
		},
	} {
		t.Run(name, func(t *testing.T) {
			f.answerBlob(answer)
			resp, body, err := f.do(t, "GET", f.url())
			if err == nil {
				t.Errorf("status %d, %d of %d bytes and no error: the client would take them for the whole blob", resp.StatusCode, len(body), len(f.blob))
			}
		})
	}
	t.Run("long and chunked", func(t *testing.T) {
		f.answerBlob(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(append(bytes.Clone(f.blob), "and more"...))
		})
		_, body, err := f.do(t, "GET", f.url())
		if err == nil && len(body) > len(f.blob) {
			t.Errorf("%d bytes of a blob of %d", len(body), len(f.blob))
		}
	})
}

// TestRedirectedBlob: the server follows the upstream's redirect itself.
func TestRedirectedBlob(t *testing.T) {
	f := newFixture(t)
	f.answerBlob(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("signed") == "" {
			http.Redirect(w, r, r.URL.Path+"?signed=yes", http.StatusTemporaryRedirect)
			return
		}
		f.serveBlob(w, r)
	})
	resp, body, err := f.do(t, "GET", f.url(), "Range", "bytes=1-3")
	if err != nil || resp.StatusCode != 206 || !bytes.Equal(body, f.blob[1:4]) {
		t.Errorf("status %d, %d bytes, %v", resp.StatusCode, len(body), err)
	}
}

// TestInjectedBlobSendsFile: no wrapper may stand between the file and the socket,
// because serving a layer would then cost twice as much. Small layers are no files.
func TestInjectedBlobSendsFile(t *testing.T) {
	f := newFixture(t)
	f.grant.Record = ""
	storeApart(t, f.store, f.parts)
	w := &readerFrom{ResponseRecorder: httptest.NewRecorder()}
	r := httptest.NewRequest("GET", f.blobURL(f.layer.Digest), nil)
	r.URL.Host, r.URL.Scheme = "", ""
	f.proxy.Config.Handler.ServeHTTP(w, r)
	if w.Code != 200 || int64(w.Body.Len()) != f.layer.Size {
		t.Fatalf("status %d, %d bytes", w.Code, w.Body.Len())
	}
	limited, ok := w.from.(*io.LimitedReader)
	if !ok {
		t.Fatalf("the connection was given a %T", w.from)
	}
	if _, ok := limited.R.(*os.File); !ok {
		t.Errorf("the connection was given a %T, want a file", limited.R)
	}
}

type readerFrom struct {
	*httptest.ResponseRecorder
	from io.Reader
}

func (w *readerFrom) ReadFrom(r io.Reader) (int64, error) {
	w.from = r
	return io.Copy(w.ResponseRecorder, r)
}

// TestManifestIgnoresRange: containerd sends bytes=0- with every request.
func TestManifestIgnoresRange(t *testing.T) {
	f := newFixture(t)
	for _, ref := range []string{"1", f.grant.Root.Digest.String()} {
		resp, body, err := f.do(t, "GET", f.proxy.URL+"/v2/wt/"+string(testToken)+"/library/base/manifests/"+ref, "Range", "bytes=0-")
		if err != nil || resp.StatusCode != 200 || int64(len(body)) != f.grant.Root.Size {
			t.Errorf("%s: status %d, %d bytes, %v", ref, resp.StatusCode, len(body), err)
		}
		if got := resp.Header.Get("Content-Type"); got != f.grant.Root.MediaType {
			t.Errorf("content type %q", got)
		}
	}
}
