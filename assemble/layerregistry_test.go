package assemble

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/augment/archivetest"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/upstream"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// vouching is a registry that answers HEAD for every blob and has none.
func vouching(t *testing.T, size int64) *upstreamtest.Registry {
	r := upstreamtest.New(t)
	r.Answer(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodHead {
			upstreamtest.Status(http.StatusNotFound)(w, req)
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(size))
	})
	return r
}

// twoRegistries returns the bases of a server for the fixture's registry and another one.
func (f fixture) twoRegistries(t *testing.T, other *upstreamtest.Registry) *bases {
	t.Helper()
	client, err := upstream.New(upstream.Options{Wait: new(upstreamtest.Pauses).Wait, Registries: map[string]upstream.Registry{
		"docker.io": {URL: f.registry.URL}, other.Host(): {PlainHTTP: true},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	return newBases(client, f.store)
}

// TestIndexesOfRegistries: a registry that has not sent a layer cannot vouch for it. What
// another registry sent, or a client, in memory, recorded, in use or being read, is told to no
// reader of this one.
func TestIndexesOfRegistries(t *testing.T) {
	var many []archivetest.File
	for i := range 40_000 { // more than what is kept in memory without a user
		many = append(many, archivetest.File{Name: fmt.Sprintf("%x", sha256.Sum256(fmt.Append(nil, i)))})
	}
	small := usrLink(t)
	layer := func(data []byte) func(*testing.T, fixture, baseSource) ocispec.Descriptor {
		return func(t *testing.T, f fixture, source baseSource) ocispec.Descriptor {
			d := f.pushLayer("library/base", data)
			_, release, err := source.index(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(release)
			return d
		}
	}
	for name, learn := range map[string]func(*testing.T, fixture, baseSource) ocispec.Descriptor{
		"a layer":       layer(small),
		"a large index": layer(archivetest.Layer(t, many...)),
		"a table of contents": func(t *testing.T, f fixture, source baseSource) ocispec.Descriptor {
			d := f.estargz(t, toc)
			if _, err := source.Index(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			return d
		},
		"an added layer": func(t *testing.T, f fixture, source baseSource) ocispec.Descriptor {
			data := archivetest.Stored(t, archivetest.Tar(t, archivetest.File{Name: "large", Text: strings.Repeat("x", 300<<10)}))
			l := augment.Layer{Digest: digest.FromBytes(data), Size: int64(len(data))}
			if err := f.store.Put(t.Context(), l.Digest, bytes.NewReader(data)); err != nil {
				t.Fatal(err)
			}
			_, release, err := source.indexes.added(t.Context(), f.store, l)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(release)
			return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: l.Digest, Size: l.Size}
		},
		"a layer that is being read": func(t *testing.T, f fixture, source baseSource) ocispec.Descriptor {
			d := f.pushLayer("library/base", small)
			asked := make(chan struct{})
			f.registry.AnswerAt(upstreamtest.BlobPath("library/base", d.Digest), func(_ http.ResponseWriter, r *http.Request) {
				close(asked)
				<-r.Context().Done()
			})
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = source.Index(t.Context(), d) // ends with the registry
			}()
			<-asked
			t.Cleanup(func() { f.registry.CloseClientConnections(); <-done })
			return d
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			other := vouching(t, int64(len(small)))
			bases := f.twoRegistries(t, other)
			d := learn(t, f, bases.repository(base))
			theirs := auth.Target{Registry: other.Host(), Repository: "library/base"}
			for how, source := range map[string]baseSource{"this server": bases.repository(theirs), "after a restart": f.twoRegistries(t, other).repository(theirs)} {
				_, err := source.Index(t.Context(), d)
				if e, ok := errors.AsType[*upstream.Error](err); !ok || e.Kind != upstream.NotFound {
					t.Errorf("%s: %v", how, err)
				}
			}
		})
	}
}

// TestAddedIndexIsItsOwn: a base layer is not taken for an added one, and is asked for at its
// registry even if a client has sent the same bytes; an added one is not taken from what a
// registry sent.
func TestAddedIndexIsItsOwn(t *testing.T) {
	f := newFixture(t)
	d := f.pushLayer("library/base", usrLink(t))
	source := f.indexer(base)
	x, err := source.Index(t.Context(), d)
	wantLink(t, x, err)
	l := augment.Layer{Digest: d.Digest, Size: d.Size}
	if _, _, err := source.indexes.added(t.Context(), f.store, l); err == nil {
		t.Error("a layer that no client has sent has an index")
	}
}

// TestOldIndexRecords: records that do not say which registry sent the layer are not used.
func TestOldIndexRecords(t *testing.T) {
	f := newFixture(t)
	d := f.pushLayer("library/base", usrLink(t))
	x, err := f.indexer(base).Index(t.Context(), d)
	wantLink(t, x, err)
	old := newFixture(t)
	sum := sha256.Sum256(fmt.Append(nil, "layer", []digest.Digest{d.Digest}))
	if err := old.store.PutRecord(t.Context(), "layerindex/"+hex.EncodeToString(sum[:]), x.Encode()); err != nil {
		t.Fatal(err)
	}
	if _, err := old.indexer(base).Index(t.Context(), d); err == nil {
		t.Error("an old record is used")
	}
	old.registry.WantRequests(t, blob("GET", d.Digest))
}
