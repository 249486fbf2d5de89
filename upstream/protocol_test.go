package upstream

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestLongBodiesOverHTTP1: what may be long and read slowly comes over HTTP/1.1, where
// the process keeps little of it; small answers share one connection of HTTP/2.
func TestLongBodiesOverHTTP1(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 1<<20)
	desc := ocispec.Descriptor{Digest: digest.FromBytes(long), Size: int64(len(long))}
	small := ocispec.Descriptor{Digest: digest.FromString("{}"), Size: 2}
	var mu sync.Mutex
	spoken := map[string]string{}
	connections := map[string]bool{}
	s := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		spoken[r.Method+" "+r.URL.Path] = r.Proto
		if r.ProtoMajor == 2 {
			connections[r.RemoteAddr] = true
		}
		mu.Unlock()
		switch r.URL.Path {
		case manifestPath:
			serveManifest(w, r)
		case "/v2/team/app/blobs/" + small.Digest.String():
			_, _ = io.WriteString(w, "{}")
		case "/v2/team/app/blobs/" + desc.Digest.String():
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		default:
			_, _ = w.Write(long)
		}
	}, func(s *httptest.Server) {
		s.EnableHTTP2 = true
		s.StartTLS()
	})
	o := Options{Registries: map[string]Registry{"example.org": {URL: s.URL, CA: certificate(t, s), Files: true}}}
	c, _ := newClient(t, o)
	repo := c.Repository(image)
	take := func(what, path, want string, body io.ReadCloser, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if body != nil {
			data, err := io.ReadAll(body)
			body.Close()
			if err != nil || !bytes.Equal(data, long) {
				t.Errorf("%s: %d bytes, %v", what, len(data), err)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if got := spoken[path]; got != want {
			t.Errorf("%s came over %s, want %s", what, got, want)
		}
		clear(spoken)
	}
	blob := "/v2/team/app/blobs/" + desc.Digest.String()
	_, body, err := repo.Stream(t.Context(), desc, Span{0, desc.Size}, false)
	take("a stream", "GET "+blob, "HTTP/1.1", body, err)
	_, body, err = repo.Stream(t.Context(), desc, Span{0, desc.Size}, false)
	take("a stream's redirect", "GET /elsewhere", "HTTP/1.1", body, err)
	body, err = repo.Layer(t.Context(), desc)
	take("a layer", "GET "+blob, "HTTP/1.1", body, err)
	fetched, _, err := c.Fetch(t.Context(), s.URL+"/files/x.tar")
	if err != nil {
		t.Fatal(err)
	}
	take("a layer's URL", "GET /files/x.tar", "HTTP/1.1", fetched, err)
	_, err = repo.BlobHead(t.Context(), desc)
	take("a blob's HEAD", "HEAD "+blob, "HTTP/2.0", nil, err)
	_, err = repo.Blob(t.Context(), small)
	take("a config", "GET /v2/team/app/blobs/"+small.Digest.String(), "HTTP/2.0", nil, err)
	_, err = repo.Manifest(t.Context(), "1.0")
	take("a manifest", "GET "+manifestPath, "HTTP/2.0", nil, err)
	if len(connections) != 1 {
		t.Errorf("%d connections of HTTP/2", len(connections))
	}
	for _, all := range []transports{direct(c, false, ""), direct(c, true, ""), direct(c, true, s.Host())} {
		if n := all.short.HTTP2.MaxReceiveBufferPerStream; n <= 0 || n > 256<<10 {
			t.Errorf("%d bytes of an answer that is not read are kept", n)
		}
	}
}
