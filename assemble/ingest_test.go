package assemble

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/augment/archivetest"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/internal/durable"
	"github.com/waveproxy/waveproxy/upstream"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// ways are the ways to give a layer. Each takes in the same bytes.
func (f fixture) ways() map[string]func(context.Context, []byte, Expected) (augment.Layer, error) {
	return map[string]func(context.Context, []byte, Expected) (augment.Layer, error){
		"inline": func(ctx context.Context, data []byte, want Expected) (augment.Layer, error) {
			return f.layers.Inline(ctx, f.store, bytes.NewReader(data), want)
		},
		"local": func(ctx context.Context, data []byte, want Expected) (augment.Layer, error) {
			return f.layers.Local(ctx, bytes.NewReader(data), "a file", want)
		},
		"URL": func(ctx context.Context, data []byte, want Expected) (augment.Layer, error) {
			f.registry.PutFile("/layer.tar.gz", data)
			return f.layers.Remote(ctx, f.registry.URL+"/layer.tar.gz", want)
		},
	}
}

func TestLayers(t *testing.T) {
	data, good := archive(t, "opt/added")
	other := digest.FromString("other")
	for name, test := range map[string]struct {
		data []byte
		want Expected
		says string // of the refusal; empty: it is taken
	}{
		"as described":   {data, good, ""},
		"not described":  {data, Expected{}, ""},
		"another digest": {data, Expected{Digest: other}, "gzipDigest: expected " + other.String()},
		"another size":   {data, Expected{Size: good.Size + 1}, "gzipSize: expected"},
		"another diffID": {data, Expected{DiffID: other}, "tarDigest: expected " + other.String()},
		"not an archive": {[]byte("<html>not found</html>"), Expected{Digest: other}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for way := range newFixture(t).ways() {
				f := newFixture(t)
				layer, err := f.ways()[way](t.Context(), test.data, test.want)
				d := digest.FromBytes(test.data)
				if test.says == "" && name != "not an archive" {
					if err != nil || layer.Digest != good.Digest || layer.DiffID != good.DiffID || layer.Size != good.Size || !f.stored(t, d) {
						t.Errorf("%s: %+v, %v", way, layer, err)
					}
					continue
				}
				refusal, ok := errors.AsType[*augment.Error](err)
				if !ok || !strings.Contains(refusal.Error(), test.says) || f.stored(t, d) {
					t.Errorf("%s: error %v, stored: %t", way, err, f.stored(t, d))
				}
				if name == "not an archive" && strings.Contains(err.Error(), "gzipDigest") {
					t.Errorf("%s: %v: the bytes are no archive, which says more than their digest", way, err)
				}
			}
		})
	}
}

// TestLayerTooLarge: a layer over the limit is refused, with and without an
// announced length.
func TestLayerTooLarge(t *testing.T) {
	f := newFixture(t)
	data := archivetest.Stored(t, archivetest.Tar(t, archivetest.File{Name: "big", Text: strings.Repeat("x", maxLayer)}))
	for name, take := range f.ways() {
		if name == "inline" {
			continue // the request's own limit holds
		}
		if _, err := take(t.Context(), data, Expected{}); err == nil || !strings.Contains(err.Error(), "layers.max_size") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if f.stored(t, digest.FromBytes(data)) {
		t.Error("it is in the store")
	}
}

// TestRemoteOnce: what a URL was seen to hold is not fetched again, even when it is
// gone. The URL counts: another one has to show that it holds the layer, too.
func TestRemoteOnce(t *testing.T) {
	f := newFixture(t)
	data, want := archive(t, "opt/added")
	f.registry.PutFile("/a", data)
	take := func(path string, want Expected) error {
		t.Helper()
		layer, err := f.layers.Remote(t.Context(), f.registry.URL+path, want)
		if err == nil && (layer.Digest != want.Digest || layer.Location != f.registry.URL+path) {
			t.Errorf("layer %+v", layer)
		}
		return err
	}
	if err := take("/a", want); err != nil {
		t.Fatal(err)
	}
	f.registry.WantRequests(t, "GET /a")
	f.registry.PutFile("/a", nil)
	if err := take("/a", want); err != nil {
		t.Error(err)
	}
	f.registry.WantRequests(t)
	wrong := want
	wrong.DiffID = digest.FromString("other")
	if err := take("/a", wrong); err == nil || !strings.Contains(err.Error(), "tarDigest") {
		t.Errorf("another diffID of a known layer: %v", err)
	}
	if e, ok := errors.AsType[*upstream.Error](take("/b", want)); !ok || e.Kind != upstream.NotFound {
		t.Error("another URL gets the layer by its digest")
	}
	f.registry.WantRequests(t, "GET /b")

	// A record without its blob is not used.
	f.registry.PutFile("/a", data)
	f.layers.store = blobstore.NewMem()
	if err := take("/a", want); err != nil {
		t.Error(err)
	}
	f.registry.WantRequests(t, "GET /a")
}

// TestImageLayer reads docker:// locations with the identity's access.
func TestImageLayer(t *testing.T) {
	f := newFixture(t)
	img := f.registry.PushImage(t, "library/tools", "amd64", []archivetest.File{{Name: "bin/tool"}}, "1")
	d := img.Layer.Digest()
	location := "docker://registry-1.docker.io/v2/library/tools/blobs/" + d.String()
	for _, identity := range []string{"ann", "ann", "bob"} {
		layer, err := f.layers.Image(t.Context(), identity, location, Expected{})
		if err != nil || layer.Digest != d || !f.stored(t, d) {
			t.Errorf("%s: %+v, %v", identity, layer, err)
		}
	}
	path := "GET " + upstreamtest.BlobPath("library/tools", d)
	f.registry.WantRequests(t, path, path) // one for each identity
	for _, bad := range []string{"docker://quay.io/tools", "https://quay.io/v2/a/blobs/" + d.String(), "docker://quay.io/v2/A/blobs/" + d.String()} {
		if _, err := f.layers.Image(t.Context(), "ann", bad, Expected{}); err == nil {
			t.Errorf("%s is taken for a blob", bad)
		}
	}
	if _, err := f.layers.Image(t.Context(), "ann", location, Expected{Digest: digest.FromString("other")}); err == nil || !strings.Contains(err.Error(), "gzipDigest") {
		t.Errorf("another digest than its location's: %v", err)
	}
}

// TestInlineReserve: a layer in a request is not spooled on a disk without room, and a
// recipe's layer is.
func TestInlineReserve(t *testing.T) {
	full := &durable.Full{Free: 1, Reserve: 2}
	for _, size := range []int{smallLayer + 1, 100 << 10, 2 << 20} {
		dir := t.TempDir()
		layers := NewLayers(blobstore.NewMem(), blobstore.NewMem(), nil, dir, 1<<30)
		layers.Room = func() error { return full }
		staged := layers.Stage()
		r := &countedZeros{left: size}
		_, err := layers.Inline(t.Context(), staged, r, Expected{})
		if _, ok := errors.AsType[*durable.Full](err); !ok {
			t.Errorf("%d bytes: %v", size, err)
		}
		if taken := size - r.left; taken > smallLayer+64<<10 {
			t.Errorf("%d of %d bytes were taken", taken, size)
		}
		if err := staged.Close(); err != nil {
			t.Error(err)
		}
		_, err = layers.Inline(t.Context(), blobstore.NewMem(), &countedZeros{left: size}, Expected{})
		if _, ok := errors.AsType[*durable.Full](err); ok {
			t.Errorf("a recipe's layer of %d bytes: %v", size, err)
		}
	}
}

type countedZeros struct{ left int }

func (z *countedZeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := min(z.left, len(p))
	clear(p[:n])
	z.left -= n
	return n, nil
}
