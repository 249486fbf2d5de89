package assemble

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// TestInspectNamed: what an inspection of a recipe's image shows is what a pull gives:
// the image that is made, or the upstream's where the recipe lets it pass.
func TestInspectNamed(t *testing.T) {
	f := newFixture(t)
	many := f.registry.PushIndex(t, "library/many", "1", "text", "amd64", "arm64").Index.Digest()
	arm := f.registry.PushImage(t, "library/arm", "arm64", nil, "1").Manifest.Digest()
	put := func(tag string, doc map[string]any) digest.Digest {
		data, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		return f.registry.PutManifest("library/odd", upstreamtest.Object{MediaType: doc["mediaType"].(string), Data: data}, tag).Digest()
	}
	signature := f.registry.PutBlob("library/odd", upstreamtest.Object{MediaType: "application/vnd.dev.cosign.simplesigning.v1+json", Data: []byte("{}")}).Descriptor()
	signed := put("signature", map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "config": signature, "layers": []any{signature}})
	listed := put("list", map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageIndex, "manifests": []any{
		map[string]any{"mediaType": ocispec.MediaTypeImageManifest, "digest": signed, "size": 400, "artifactType": "application/example"}}})
	amd64 := augment.Layer{Digest: digest.FromString("layer"), Platform: "linux/amd64"}
	forRISC := augment.Layer{Digest: digest.FromString("layer"), Platform: "linux/riscv64"}
	for name, test := range map[string]struct {
		ref    string
		recipe augment.Recipe
		root   digest.Digest // "": what is made, or nothing
		fails  bool
	}{
		"made":                       {"many:1", augment.Recipe{Env: []string{"A=1"}}, "", false},
		"plain, for another machine": {"arm:1", augment.Recipe{Layers: []augment.Layer{amd64}, Plain: true}, arm, false},
		"plain, for no machine":      {"many:1", augment.Recipe{Layers: []augment.Layer{forRISC}, Plain: true}, many, false},
		"for another machine":        {"arm:1", augment.Recipe{Layers: []augment.Layer{amd64}}, "", true},
		"list of artifacts":          {"odd:list", augment.Recipe{Env: []string{"A=1"}}, listed, false},
		"artifact":                   {"odd:signature", augment.Recipe{Env: []string{"A=1"}}, "", true}, // it has no config to show
		"absent":                     {"many:2", augment.Recipe{Env: []string{"A=1"}, Plain: true}, "", true},
	} {
		in, err := f.resolver.InspectNamed(t.Context(), "", parse(t, test.ref), test.recipe, nil)
		if (err != nil) != test.fails {
			t.Errorf("%s: error %v", name, err)
			continue
		}
		if test.root != "" && in.Root.Digest != test.root || test.root == "" && (in.Root.Digest == many || in.Root.Digest == "") && !test.fails {
			t.Errorf("%s: %s is inspected, want %s", name, in.Root.Digest, test.root)
		}
	}
}

// countingStore counts the bytes that are read from it.
type countingStore struct {
	blobstore.Store
	read atomic.Int64
}

type countingBlob struct {
	io.ReadSeekCloser
	to *countingStore
}

func (s *countingStore) Open(ctx context.Context, d digest.Digest) (io.ReadSeekCloser, error) {
	f, err := s.Store.Open(ctx, d)
	return countingBlob{f, s}, err
}

func (b countingBlob) Read(p []byte) (int, error) {
	n, err := b.ReadSeekCloser.Read(p)
	b.to.read.Add(int64(n))
	return n, err
}

// TestStoredDocumentsCharged: not a byte of a stored document is read before the request
// has its memory, whichever document it is.
func TestStoredDocumentsCharged(t *testing.T) {
	f := newFixture(t)
	f.registry.PushIndex(t, "library/many", "1", "text", "amd64", "arm64")
	g, err := f.resolver.Resolve(t.Context(), ImageRequest{Ref: parse(t, "many:1"), Recipe: augment.Recipe{Env: []string{"A=" + strings.Repeat("x", 100<<10)}}, Staged: f.store})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.store.PutPack(t.Context(), "until/2126-01-01/grants/0a", nil, g.Parts); err != nil {
		t.Fatal(err)
	}
	if len(g.Objects) != 5 {
		t.Fatalf("the grant has %v, want an index, two manifests and two configs", g.Objects)
	}
	for _, d := range g.Objects {
		for limit, refused := range map[int64]bool{100: true, 8 << 20: false} {
			ledger := budget.NewLedger(budget.Limits{budget.Memory: {Request: limit}})
			store := &countingStore{Store: f.store}
			src := grantSource{&chargedSource{}, store, &g}
			o, ok, err := src.stored(budget.With(t.Context(), ledger.Open("a")), d)
			if refused {
				if _, exceeded := errors.AsType[*budget.Exceeded](err); !ok || !exceeded || store.read.Load() != 0 {
					t.Errorf("%s: %t, %v, and %d bytes were read", d, ok, err, store.read.Load())
				}
				continue
			}
			if err != nil || o.Digest != d || ledger.Held(budget.Memory) != documentCost*int64(len(o.Data)) {
				t.Errorf("%s: %s, %v, and %d bytes are held", d, o.Digest, err, ledger.Held(budget.Memory))
			}
			src.release()
			if n := ledger.Held(budget.Memory); n != 0 {
				t.Errorf("%d bytes are held afterwards", n)
			}
		}
	}
}
