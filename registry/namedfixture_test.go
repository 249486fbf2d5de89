package registry

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/upstream"
)

// world has an upstream that notes what it is asked, and servers that share a
// store and a clock.
type world struct {
	t        *testing.T
	upstream *httptest.Server
	client   *upstream.Client
	store    *blobstore.Dir
	dir      string
	records  *clockedGrants
	layer    augment.Layer

	mu       sync.Mutex
	now      time.Time
	requests []string
	objects  map[string]object // by path below /v2/
	answer   http.HandlerFunc  // for everything; nil for what is there
	recipes  map[string]Recipe
}

type object struct {
	mediaType string
	data      []byte
}

func (o object) digest() digest.Digest { return digest.FromBytes(o.data) }

func (o object) descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: o.mediaType, Digest: o.digest(), Size: int64(len(o.data))}
}

// clockedGrants go by the world's clock, and count.
type clockedGrants struct {
	*auth.Grants
	world *world

	mu     sync.Mutex
	stored map[string]time.Time
	puts   []string
	fail   error // of Put
}

func (c *clockedGrants) Put(ctx context.Context, name string, g auth.Grant) error {
	c.mu.Lock()
	c.puts = append(c.puts, name)
	c.stored[name] = c.world.clock().Truncate(time.Second)
	fail := c.fail
	c.mu.Unlock()
	if fail != nil {
		return fail
	}
	return c.Grants.Put(ctx, name, g)
}

func (c *clockedGrants) Get(ctx context.Context, name string) (*auth.Grant, time.Time, error) {
	g, _, err := c.Grants.Get(ctx, name)
	c.mu.Lock()
	defer c.mu.Unlock()
	return g, c.stored[name], err
}

// written returns how many records were written since it was last asked.
func (c *clockedGrants) written() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.puts)
	c.puts = nil
	return n
}

func (w *world) Recipe(name string) (Recipe, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r, ok := w.recipes[name]
	return r, ok
}

func (w *world) Any() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.recipes) > 0
}

func (w *world) set(name string, r Recipe) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.recipes[name] = r
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) wait(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) answerWith(h http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = h
}

// asked returns what the upstream was asked since it was last looked at, sorted.
func (w *world) asked() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked := w.requests
	w.requests = nil
	slices.Sort(asked)
	return asked
}

// wantAsked names digests by the objects' paths below /v2/.
func (w *world) wantAsked(want ...string) {
	w.t.Helper()
	slices.Sort(want)
	if got := w.asked(); !slices.Equal(got, want) {
		w.t.Errorf("the upstream was asked\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC), objects: map[string]object{}, recipes: map[string]Recipe{}}
	w.upstream = httptest.NewServer(w)
	client, err := upstream.New(upstream.Options{Registries: map[string]upstream.Registry{
		"docker.io": {URL: w.upstream.URL}, "quay.io": {URL: w.upstream.URL}, "registry.local:5000": {URL: w.upstream.URL},
	}, Wait: noWait})
	if err != nil {
		t.Fatal(err)
	}
	w.client = client
	t.Cleanup(func() {
		w.upstream.Close()
		client.CloseIdleConnections()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	w.dir = t.TempDir()
	if w.store, err = blobstore.NewDir(w.dir); err != nil {
		t.Fatal(err)
	}
	key, err := auth.ParseKey([]byte("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="))
	if err != nil {
		t.Fatal(err)
	}
	grants, err := auth.NewGrants([]auth.Key{key}, w.store)
	if err != nil {
		t.Fatal(err)
	}
	w.records = &clockedGrants{Grants: grants, world: w, stored: map[string]time.Time{}}
	w.layer, err = assemble.NewLayers(w.store, w.store, client, t.TempDir(), 1<<20).Inline(t.Context(), w.store, archiveOf(t, "opt/added", "added"), assemble.Expected{})
	if err != nil {
		t.Fatal(err)
	}
	w.set("tools", Recipe{Recipe: augment.Recipe{Layers: []augment.Layer{w.layer}, Env: []string{"SECRET=xyzzy"}}, Identity: "recipe:tools"})
	return w
}

func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	w.mu.Lock()
	w.requests = append(w.requests, r.Method+" "+path)
	answer := w.answer
	o, ok := w.objects[path]
	w.mu.Unlock()
	switch {
	case answer != nil:
		answer(rw, r)
	case !ok:
		http.NotFound(rw, r)
	default:
		rw.Header().Set("Content-Type", o.mediaType)
		rw.Header().Set("Docker-Content-Digest", o.digest().String())
		http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(o.data))
	}
}

// noWait lets the waits between attempts pass at once.
func noWait(ctx context.Context, _ time.Duration) error { return ctx.Err() }

func status(code int, header ...string) http.HandlerFunc {
	return func(rw http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			rw.Header().Set(header[i], header[i+1])
		}
		rw.WriteHeader(code)
	}
}

func (w *world) put(repository, kind string, o object, tags ...string) object {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ref := range append(tags, o.digest().String()) {
		w.objects[repository+"/"+kind+"/"+ref] = o
	}
	return o
}

// image is one that the upstream has.
type upstreamImage struct {
	index    object
	children []object
	configs  []object
	layers   []object
}

// push gives the upstream an index of images for these architectures, and an
// attestation as BuildKit makes them.
func (w *world) push(repository, tag, text string, architectures ...string) upstreamImage {
	w.t.Helper()
	var img upstreamImage
	var entries []ocispec.Descriptor
	for _, arch := range architectures {
		layer := w.put(repository, "blobs", object{ocispec.MediaTypeImageLayerGzip, archiveOf(w.t, "etc/base", text+arch)})
		config := w.put(repository, "blobs", object{ocispec.MediaTypeImageConfig, encode(w.t, ocispec.Image{
			Platform: ocispec.Platform{OS: "linux", Architecture: arch},
			RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString(text + arch)}},
		})})
		child := w.put(repository, "manifests", object{ocispec.MediaTypeImageManifest, encode(w.t, ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			Config: config.descriptor(), Layers: []ocispec.Descriptor{layer.descriptor()},
		})})
		img.layers, img.configs, img.children = append(img.layers, layer), append(img.configs, config), append(img.children, child)
		desc := child.descriptor()
		desc.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
		entries = append(entries, desc)
	}
	attestation := w.put(repository, "manifests", object{ocispec.MediaTypeImageManifest, encode(w.t, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: ocispec.DescriptorEmptyJSON,
		Layers: []ocispec.Descriptor{}, Annotations: map[string]string{"of": text},
	})})
	desc := attestation.descriptor()
	desc.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	desc.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	img.index = w.put(repository, "manifests", object{ocispec.MediaTypeImageIndex, encode(w.t, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: append(entries, desc),
	})}, tag)
	return img
}
