package recipes

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/containerconfig"
	"github.com/waveproxy/waveproxy/upstream"
)

func TestMain(m *testing.M) {
	// The client's cache of logins has a goroutine that lives as long as the
	// process.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/hashicorp/golang-lru/v2/expirable.NewLRU[...].func1"))
}

// site is a web site of documents and layers.
type site struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string][]byte
	asked map[string]int
}

func newSite(t *testing.T) *site {
	s := &site{files: map[string][]byte{}, asked: map[string]int{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Errorf("%s was asked for with a credential", r.URL)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked[r.URL.Path]++
		data := s.files[r.URL.Path]
		if data == nil {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(data)
	}))
	t.Cleanup(s.Close)
	return s
}

// put serves data at a path; nil data answers 404.
func (s *site) put(path string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[path] = data
}

// counts returns the number of requests by path since the previous call.
func (s *site) counts() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = map[string]int{}
	return asked
}

// layer serves an archive with one file and returns its entry in a document.
func (s *site) layer(t *testing.T, path, file string) containerconfig.Layer {
	t.Helper()
	data := archive(t, file)
	s.put(path, data)
	entry := describe(t, data)
	entry.Location = s.URL + path
	return entry
}

// fusion serves documents as Fusion's are, for both architectures.
func (s *site) fusion(t *testing.T) (document string) {
	t.Helper()
	for _, arch := range containerconfig.Architectures {
		config := containerconfig.Config{
			Entrypoint: []string{"/usr/bin/fusion"},
			Layers:     []containerconfig.Layer{s.layer(t, "/pkg/2/6/0/fusion-"+arch+".tar.gz", "usr/bin/fusion."+arch)},
		}
		s.put("/v2.6-"+arch+".json", encode(t, config))
	}
	return s.URL + "/v2.6-{arch}.json"
}

func archive(t *testing.T, file string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := augment.Pack(&b, fstest.MapFS{file: {Data: []byte(file), Mode: 0o755}}, "/"); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func describe(t *testing.T, data []byte) containerconfig.Layer {
	t.Helper()
	found, err := augment.Inspect(t.Context(), bytes.NewReader(data), augment.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	return containerconfig.Layer{GzipDigest: found.Digest.String(), GzipSize: containerconfig.Size(found.Size), TarDigest: found.DiffID.String()}
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// fixture is a loader with a store of its own.
type fixture struct {
	Loader
	store *blobstore.Mem
	log   *bytes.Buffer
}

// noWait skips the pauses between attempts to reach the site.
func noWait(ctx context.Context, _ time.Duration) error { return ctx.Err() }

const testMaxLayer = 1 << 20

// newFixture returns a fixture that may connect to the site.
func newFixture(t *testing.T, s *site) fixture {
	t.Helper()
	listed := map[string]upstream.Registry{strings.TrimPrefix(s.URL, "http://"): {PlainHTTP: true}}
	client, err := upstream.New(upstream.Options{Registries: listed, UserAgent: "test", Wait: noWait})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	h := fixture{store: blobstore.NewMem(), log: new(bytes.Buffer)}
	h.Loader = Loader{
		Upstream: client, Layers: assemble.NewLayers(h.store, h.store, client, t.TempDir(), testMaxLayer),
		Store: h.store, Records: h.store, MaxInline: 1 << 20, Log: slog.New(slog.NewTextHandler(h.log, nil)),
	}
	return h
}

// load returns a book with the recipes of good definitions.
func (h fixture) load(t *testing.T, definitions map[string]Definition) *Book {
	t.Helper()
	e, err := h.Load(t.Context(), definitions)
	if err != nil {
		t.Fatal(err)
	}
	b := new(Book)
	b.Replace(e)
	return b
}

// names returns the files of a layer in the store.
func (h fixture) names(t *testing.T, d digest.Digest) string {
	t.Helper()
	f, err := h.store.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return tarNames(t, f)
}

func (h fixture) recipe(t *testing.T, b *Book, name string) assemble.NamedRecipe {
	t.Helper()
	r, ok := b.Recipe(name)
	if !ok {
		t.Fatalf("no recipe %s", name)
	}
	return r
}

// summary returns the platform and the files of each layer.
func (h fixture) summary(t *testing.T, r assemble.NamedRecipe) (list []string) {
	t.Helper()
	for _, l := range r.Layers {
		list = append(list, fmt.Sprintf("%s %s", l.Platform, h.names(t, l.Digest)))
	}
	return list
}

func writeFile(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
