package registry

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/upstream"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/golang-lru/v2/expirable.NewLRU[...].func1"))
}

// fakeTokens has one token.
type fakeTokens struct{ grant *auth.Grant }

func (f fakeTokens) Open(_ context.Context, t auth.Token) (*auth.Grant, error) {
	if t != testToken {
		return nil, auth.ErrUnknownToken
	}
	return f.grant, nil
}

// fixture is a server with one augmented image whose base is at an upstream
// that serves blobs as the test says.
type fixture struct {
	server   *Server
	proxy    *httptest.Server
	upstream *httptest.Server
	blob     []byte // the base image's layer
	layer    augment.Layer
	grant    auth.Grant

	mu       sync.Mutex
	requests []*http.Request
	answer   http.HandlerFunc // for GET of the blob; nil serves it
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{blob: archiveOf(t, "base", strings.Repeat("0123456789abcdef", 64<<10))}
	config := encode(t, ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString("diff")}}})
	manifest := encode(t, ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))},
		Layers: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(f.blob), Size: int64(len(f.blob))}}})
	f.upstream = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.requests = append(f.requests, r)
		answer := f.answer
		f.mu.Unlock()
		switch r.URL.Path {
		case "/v2/library/base/manifests/1":
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			_, _ = w.Write(manifest)
		case "/v2/library/base/blobs/" + digest.FromBytes(config).String():
			_, _ = w.Write(config)
		case "/v2/library/base/blobs/" + digest.FromBytes(f.blob).String():
			if answer == nil {
				answer = f.serveBlob
			}
			answer(w, r)
		default:
			http.NotFound(w, r)
		}
	}))
	client, err := upstream.New(upstream.Options{Registries: map[string]upstream.Registry{"docker.io": {URL: f.upstream.URL}}, Wait: noWait})
	if err != nil {
		t.Fatal(err)
	}
	store, err := blobstore.NewDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	staged := blobstore.NewMem()
	layers := assemble.NewLayers(store, store, client, t.TempDir(), 1<<20)
	f.layer, err = layers.Inline(t.Context(), staged, archiveOf(t, "added", "added"), assemble.Expected{})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := reference.ParseNormalizedNamed("base:1")
	if err != nil {
		t.Fatal(err)
	}
	f.grant, err = assemble.NewResolver(client, layers, store, 125).Resolve(t.Context(), assemble.ImageRequest{Ref: ref, Recipe: augment.Recipe{Layers: []augment.Layer{f.layer}}, Staged: staged})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	f.server = New(Options{Tokens: fakeTokens{&f.grant}, Store: store, Upstream: client, Log: log})
	f.proxy = httptest.NewServer(front.Front{Log: log}.Handler(f.server))
	t.Cleanup(func() {
		f.proxy.Close()
		f.upstream.Close()
		client.CloseIdleConnections()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	f.reset()
	return f
}

func (f *fixture) serveBlob(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/vnd.upstream")
	w.Header().Set("Set-Cookie", "session=1")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.blob))
}

func (f *fixture) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = nil
}

func (f *fixture) seen() []*http.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

func (f *fixture) answerWith(h http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = h
}

// url is where the base image's layer is.
func (f *fixture) url() string { return f.blobURL(digest.FromBytes(f.blob)) }

func (f *fixture) blobURL(d digest.Digest) string {
	return f.proxy.URL + "/v2/wt/" + string(testToken) + "/library/base/blobs/" + d.String()
}

// do sends a request. The error is that of reading the body.
func (f *fixture) do(t *testing.T, method, url string, header ...string) (*http.Response, []byte, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func archiveOf(t *testing.T, name, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.NoCompression)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
		t.Fatal(err)
	}
	for _, write := range []func() error{func() error { _, err := io.WriteString(w, text); return err }, w.Close, z.Close} {
		if err := write(); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}
