package assemble

import (
	"archive/tar"
	"bytes"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/augment/archivetest"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/layerindex"
	"github.com/waveproxy/waveproxy/upstream"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// base is where the tests' layers are.
var base = auth.Target{Registry: "docker.io", Repository: "library/base"}

// indexer reads indexes with a memory of its own, as another server or this one after a restart
// does.
func (f fixture) indexer(t auth.Target) baseSource {
	return newBases(f.resolver.bases.client, f.store).repository(t)
}

// pushLayer serves a layer and returns its descriptor.
func (f fixture) pushLayer(repository string, data []byte) ocispec.Descriptor {
	return f.registry.PutBlob(repository, upstreamtest.Object{MediaType: ocispec.MediaTypeImageLayerGzip, Data: data}).Descriptor()
}

// usrLink is a layer whose bin is a link to usr/bin.
func usrLink(t *testing.T) []byte {
	return archivetest.Layer(t, archivetest.File{Name: "bin", Type: tar.TypeSymlink, Link: "usr/bin"}, archivetest.File{Name: "etc/a", Text: strings.Repeat("text", 1000)})
}

func wantLink(t *testing.T, x *layerindex.Index, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if e, ok := x.Find("bin"); !ok || e.Kind != layerindex.Link || e.Target != "usr/bin" {
		t.Errorf("bin is %+v", e)
	}
}

func blob(method string, d digest.Digest) string {
	return method + " " + upstreamtest.BlobPath("library/base", d)
}

// TestIndexIsReadOnce: a layer is read once; then one HEAD proves each caller's right, and
// nothing is asked while the right is known.
func TestIndexIsReadOnce(t *testing.T) {
	f := newFixture(t)
	d := f.pushLayer("library/base", usrLink(t))
	f.pushLayer("library/copy", usrLink(t))
	first := f.indexer(base)
	for range 3 {
		x, err := first.Index(t.Context(), d)
		wantLink(t, x, err)
	}
	f.registry.WantRequests(t, blob("GET", d.Digest))

	other := f.indexer(base)
	for range 3 {
		x, err := other.Index(t.Context(), d)
		wantLink(t, x, err)
	}
	f.registry.WantRequests(t, blob("HEAD", d.Digest))

	ann := first.bases.repository(auth.Target{Identity: "ann", Registry: "docker.io", Repository: "library/base"})
	x, err := ann.Index(t.Context(), d)
	wantLink(t, x, err)
	f.registry.WantRequests(t, blob("HEAD", d.Digest))

	elsewhere := first.bases.repository(auth.Target{Registry: "docker.io", Repository: "library/copy"})
	x, err = elsewhere.Index(t.Context(), d)
	wantLink(t, x, err)
	f.registry.WantRequests(t, "HEAD "+upstreamtest.BlobPath("library/copy", d.Digest))
}

// TestIndexNeedsTheRight: an index that is known is not given to a caller that cannot read
// the layer, from memory or from a record.
func TestIndexNeedsTheRight(t *testing.T) {
	f := newFixture(t)
	d := f.pushLayer("library/base", usrLink(t))
	first := f.indexer(base)
	x, err := first.Index(t.Context(), d)
	wantLink(t, x, err)
	attacker := auth.Target{Registry: "docker.io", Repository: "library/attacker"}
	for name, source := range map[string]baseSource{"memory": first.bases.repository(attacker), "record": f.indexer(attacker)} {
		_, err := source.Index(t.Context(), d)
		if e, ok := errors.AsType[*upstream.Error](err); !ok || e.Kind != upstream.NotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Some registries refuse HEAD, and send the layer.
	f.registry.TakeRequests()
	served := upstreamtest.Object{Data: usrLink(t)}
	f.registry.AnswerAt(upstreamtest.BlobPath("library/base", d.Digest), func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			upstreamtest.Status(http.StatusMethodNotAllowed)(w, r)
			return
		}
		served.ServeHTTP(w, r)
	})
	x, err = f.indexer(base).Index(t.Context(), d)
	wantLink(t, x, err)
	f.registry.WantRequests(t, blob("HEAD", d.Digest), blob("GET", d.Digest))
}

// TestConcurrentIndexes: any number of callers of one client read a layer once.
func TestConcurrentIndexes(t *testing.T) {
	f := newFixture(t)
	d := f.pushLayer("library/base", usrLink(t))
	source := f.indexer(base)
	ledger := budget.NewLedger(budget.Limits{budget.Memory: {Client: 64 << 20, All: 256 << 20}, budget.Fetches: {Client: 1, All: 1}})
	ctx := budget.With(t.Context(), ledger.Open("a"))
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if _, err := source.Index(ctx, d); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(f.registry.TakeLines()); n != 1 {
		t.Errorf("%d requests", n)
	}
	if ledger.Held(budget.Memory)+ledger.Held(budget.Fetches) != 0 {
		t.Error("something is held in the end")
	}
}

// TestWrongLayers: what a registry sends in a layer's place is an error that names the layer,
// and is never recorded.
func TestWrongLayers(t *testing.T) {
	right := usrLink(t)
	page := []byte(strings.Repeat("<html>", 1000))
	for name, test := range map[string]struct {
		d        ocispec.Descriptor
		data     []byte
		says     string
		upstream bool
	}{
		"another layer":    {ocispec.Descriptor{Digest: digest.FromString("wanted")}, right, "another digest, " + digest.FromBytes(right).String(), true},
		"with its size":    {ocispec.Descriptor{Digest: digest.FromString("wanted"), Size: int64(len(right))}, right, "another digest", true},
		"cut off":          {ocispec.Descriptor{Digest: digest.FromBytes(right), Size: int64(len(right))}, right[:len(right)-1], "", false},
		"a byte more":      {ocispec.Descriptor{Digest: digest.FromBytes(right)}, append(slices.Clone(right), 0), "another digest", true},
		"a page":           {ocispec.Descriptor{Digest: digest.FromBytes(page), Size: int64(len(page))}, page, "is not a tar archive", false},
		"no digest":        {ocispec.Descriptor{Digest: "sha256:short"}, right, "short", false},
		"encrypted":        {ocispec.Descriptor{Digest: digest.FromBytes(page), MediaType: ocispec.MediaTypeImageLayerGzip + "+encrypted"}, page, "is encrypted, so where the entry would land cannot be told", false},
		"encrypted, zstd":  {ocispec.Descriptor{Digest: digest.FromBytes(page), MediaType: ocispec.MediaTypeImageLayerZstd + "+encrypted"}, page, "is encrypted, so where the entry would land cannot be told", false},
		"encrypted, plain": {ocispec.Descriptor{Digest: digest.FromBytes(page), MediaType: ocispec.MediaTypeImageLayer + "+encrypted"}, page, "is encrypted, so where the entry would land cannot be told", false},
		"Docker encrypted": {ocispec.Descriptor{Digest: digest.FromBytes(page), MediaType: "application/vnd.docker.image.rootfs.diff.tar.gzip+enc"}, page, "is encrypted, so where the entry would land cannot be told", false},
		"Docker tar, enc.": {ocispec.Descriptor{Digest: digest.FromBytes(page), MediaType: "application/vnd.docker.image.rootfs.diff.tar+enc"}, page, "is encrypted, so where the entry would land cannot be told", false},
		"foreign, absent":  {ocispec.Descriptor{Digest: digest.FromBytes(right), MediaType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}, nil, "is a foreign layer", false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			answer := upstreamtest.Object{Data: test.data}.ServeHTTP
			if test.data == nil {
				answer = http.NotFound
			}
			f.registry.Answer(answer)
			_, err := f.indexer(base).Index(t.Context(), test.d)
			if err == nil || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), test.d.Digest.String()) {
				t.Errorf("error %v", err)
			}
			_, theirs := errors.AsType[*upstream.Error](err)
			_, ours := errors.AsType[*augment.Error](err)
			if name != "cut off" && (theirs != test.upstream || ours == test.upstream) {
				t.Errorf("error %#v", err)
			}
			for _, record := range append(recordsOf(f.registry.URL, test.d), indexRecord(ofLayer, f.registry.URL, digest.FromBytes(test.data))) {
				if data, err := f.store.Record(t.Context(), record); err == nil {
					t.Errorf("%d bytes were recorded", len(data))
				}
			}
		})
	}
}

// TestDamagedIndexRecord: a record that was damaged is found out and written anew.
func TestDamagedIndexRecord(t *testing.T) {
	f := newFixture(t)
	d := f.pushLayer("library/base", usrLink(t))
	x, err := f.indexer(base).Index(t.Context(), d)
	wantLink(t, x, err)
	name := recordsOf(f.registry.URL, d)[0]
	record, err := f.store.Record(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	flipped := slices.Clone(record)
	flipped[len(flipped)-3] ^= 1
	for _, damaged := range [][]byte{nil, []byte("{}"), record[:len(record)/2], flipped, append(slices.Clone(record), 0)} {
		if err := f.store.PutRecord(t.Context(), name, damaged); err != nil {
			t.Fatal(err)
		}
		f.registry.TakeRequests()
		x, err := f.indexer(base).Index(t.Context(), d)
		wantLink(t, x, err)
		f.registry.WantRequests(t, blob("GET", d.Digest))
		if again, err := f.store.Record(t.Context(), name); err != nil || !bytes.Equal(again, record) {
			t.Errorf("the record is not what it must be: %d bytes, %v", len(again), err)
		}
	}
}
