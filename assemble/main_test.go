package assemble

import (
	"bytes"
	"io"
	"testing"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/augment/archivetest"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/upstream"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

func TestMain(m *testing.M) {
	// Each LRU has a goroutine that expires entries as long as the process lives.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/golang-lru/v2/expirable.NewLRU[...].func1"))
}

const maxLayer = 64 << 10

// fixture is a Resolver whose registry is docker.io, quay.io and a host for layer URLs.
type fixture struct {
	registry *upstreamtest.Registry
	store    *blobstore.Mem
	layers   *Layers
	resolver *Resolver
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	r := upstreamtest.New(t)
	client, err := upstream.New(upstream.Options{Wait: new(upstreamtest.Pauses).Wait, Registries: map[string]upstream.Registry{
		"docker.io": {URL: r.URL}, "quay.io": {URL: r.URL}, r.Host(): {PlainHTTP: true},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	store := blobstore.NewMem()
	layers := NewLayers(store, store, client, t.TempDir(), maxLayer)
	return fixture{r, store, layers, NewResolver(client, layers, store, 125)}
}

func parse(t *testing.T, name string) reference.Named {
	t.Helper()
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// stored reports whether the store has the digest, with the right bytes.
func (f fixture) stored(t *testing.T, d digest.Digest) bool {
	t.Helper()
	file, err := f.store.Open(t.Context(), d)
	if err != nil {
		return false
	}
	defer file.Close()
	data, err := io.ReadAll(file)
	return err == nil && d == digest.FromBytes(data)
}

// archive returns a layer of one file, and the layer's true sizes and digests.
func archive(t *testing.T, name string) ([]byte, Expected) {
	t.Helper()
	plain := archivetest.Tar(t, archivetest.File{Name: name, Text: name, Mode: 0o644})
	data := archivetest.Gzip(t, plain)
	return data, Expected{Digest: digest.FromBytes(data), Size: int64(len(data)), DiffID: digest.FromBytes(plain)}
}

// staged takes in a layer without storing it yet, as requests do.
func (f fixture) staged(t *testing.T, name string) (*blobstore.Mem, augment.Recipe) {
	t.Helper()
	store := blobstore.NewMem()
	data, want := archive(t, name)
	layer, err := f.layers.Inline(t.Context(), store, bytes.NewReader(data), want)
	if err != nil {
		t.Fatal(err)
	}
	return store, augment.Recipe{Layers: []augment.Layer{layer}}
}
