package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/augment/archivetest"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/internal/pack"
	"github.com/waveproxy/waveproxy/upstream"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
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

// fixture is a server with one augmented image, which a token stands for.
type fixture struct {
	server   *Server
	proxy    *httptest.Server
	upstream *upstreamtest.Registry // has the base image, docker.io/library/base:1
	blob     []byte                 // the base image's layer
	layer    augment.Layer          // the added one
	grant    auth.Grant
	store    *blobstore.Dir
	parts    []pack.Part // of the grant
}

// newFixture runs the test beside others, because all of them wait for the disk.
func newFixture(t *testing.T) *fixture {
	t.Helper()
	t.Parallel()
	f := &fixture{upstream: upstreamtest.New(t)}
	f.blob = f.upstream.PushImage(t, "library/base", "amd64", []archivetest.File{{Name: "base", Text: strings.Repeat("0123456789abcdef", 64<<10), Mode: 0o644}}, "1").Layer.Data
	f.answerBlob(f.serveBlob)
	client, err := upstream.New(upstream.Options{Registries: map[string]upstream.Registry{"docker.io": {URL: f.upstream.URL}}, Wait: new(upstreamtest.Pauses).Wait})
	if err != nil {
		t.Fatal(err)
	}
	store, err := blobstore.NewDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	staged := blobstore.NewMem()
	layers := assemble.NewLayers(store, store, client, t.TempDir(), 1<<20)
	f.layer, err = layers.Inline(t.Context(), staged, bytes.NewReader(archivetest.Layer(t, archivetest.File{Name: "added", Text: "added", Mode: 0o644})), assemble.Expected{})
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
	f.store, f.parts = store, f.grant.Parts
	f.grant.Record, f.grant.Parts = "until/2126-01-01/grants/0a", nil
	if err := store.PutPack(t.Context(), f.grant.Record, []byte("the grant"), f.parts); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	f.server = New(Options{Tokens: fakeTokens{&f.grant}, Store: store, Upstream: client, Log: log})
	f.proxy = httptest.NewServer(front.Front{Log: log}.Handler(f.server))
	t.Cleanup(func() {
		f.proxy.Close()
		client.CloseIdleConnections()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	f.upstream.TakeRequests()
	return f
}

// serveBlob is how the upstream serves the base image's layer: with headers that a
// client must not see.
func (f *fixture) serveBlob(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/vnd.upstream")
	w.Header().Set("Set-Cookie", "session=1")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.blob))
}

// answerBlob has the upstream answer requests for the base image's layer with h.
func (f *fixture) answerBlob(h http.HandlerFunc) {
	f.upstream.AnswerAt(upstreamtest.BlobPath("library/base", digest.FromBytes(f.blob)), h)
}

// url returns the URL of the base image's layer.
func (f *fixture) url() string { return f.blobURL(digest.FromBytes(f.blob)) }

func (f *fixture) blobURL(d digest.Digest) string {
	return f.proxy.URL + "/v2/wt/" + string(testToken) + "/library/base/blobs/" + d.String()
}

// do sends a request. The error is from reading the body.
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
