package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// manifestOf returns a manifest of n layers, each with more in its descriptor.
func manifestOf(n int, more func(i int) string) string {
	var layers []string
	for i := range n {
		layers = append(layers, fmt.Sprintf(`{"digest":"%s","size":%d%s}`, digest.FromString(fmt.Sprint(n, i)), i, more(i)))
	}
	return `{"schemaVersion":2,"config":{"mediaType":"` + ocispec.MediaTypeImageConfig + `","digest":"` + digest.FromString("c").String() + `","size":1},"layers":[` + strings.Join(layers, ",") + `]}`
}

// storedGrant puts the document into the store and returns a grant for it.
func storedGrant(t *testing.T, store blobstore.Store, mediaType, text string) auth.Grant {
	t.Helper()
	o := augment.NewObject(mediaType, []byte(text))
	if err := store.Put(t.Context(), o.Digest, bytes.NewReader(o.Data)); err != nil {
		t.Fatal(err)
	}
	return auth.Grant{Image: "docker.io/library/app", Tag: "1", Root: o.Descriptor(), Objects: []digest.Digest{o.Digest}}
}

func heap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers let go
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestImageCost: an image costs what it says, whatever is in its documents, and what
// no request needs is not kept.
func TestImageCost(t *testing.T) {
	var entries []string
	for i := range 500 {
		entries = append(entries, fmt.Sprintf(`{"mediaType":"%s","digest":"%s","size":1,"platform":{"os":"linux","architecture":"arm64","variant":"v%d"}}`,
			ocispec.MediaTypeImageManifest, digest.FromString(fmt.Sprint(i)), i))
	}
	plain := func(int) string { return `,"mediaType":"` + ocispec.MediaTypeImageLayerGzip + `"` }
	for name, text := range map[string]string{
		"small":       manifestOf(3, plain),
		"ordinary":    manifestOf(20, plain),
		"many layers": manifestOf(2000, plain),
		"odd types":   manifestOf(300, func(i int) string { return fmt.Sprintf(`,"mediaType":"a/%0200d"`, i) }),
		"annotations": manifestOf(50, func(i int) string { return `,"annotations":{"a":"` + strings.Repeat("x", 20<<10) + `"}` }),
		"unread":      `{"schemaVersion":2,"manifests":[` + strings.Join(entries, ",") + `]}`,
	} {
		t.Run(name, func(t *testing.T) {
			store := blobstore.NewMem()
			grant := storedGrant(t, store, ocispec.MediaTypeImageManifest, text)
			const n = 4
			var images []*image
			before := heap()
			for range n {
				g := grant
				g.Recipe.Env = []string{"A=" + strings.Repeat("e", 20<<10)}
				img, err := loadImage(t.Context(), store, &g, nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := subjectsOf(t.Context(), img); err != nil {
					t.Fatal(err)
				}
				images = append(images, img)
			}
			used, said := (heap()-before)/n, images[0].totalCost()
			if used > said || said > 3*used+8<<10 {
				t.Errorf("an image of a document of %d bytes takes %d bytes and says %d", len(text), used, said)
			}
			if name == "annotations" && used > 100<<10 {
				t.Errorf("annotations are kept: %d bytes", used)
			}
			runtime.KeepAlive(images)
			runtime.KeepAlive(store)
		})
	}
}

// TestManyImages: however many tokens there are, and whatever their images are, they
// take bounded memory. Each is served, from memory or not.
func TestManyImages(t *testing.T) {
	store := blobstore.NewMem()
	var grants []auth.Grant
	for i := range 6 {
		grants = append(grants, storedGrant(t, store, ocispec.MediaTypeImageManifest, manifestOf(3000+i, func(i int) string {
			return fmt.Sprintf(`,"mediaType":"a/%0200d"`, i)
		})))
	}
	tokens := grantsByToken{}
	images := newTokenImages(tokens, store, nil)
	before := heap()
	for i := range 36 {
		token := auth.Token(fmt.Sprint("token", i))
		g := grants[i%len(grants)]
		tokens[token] = &g
		img, err := images.image(t.Context(), token)
		if err != nil || img.grant != &g || !img.shared {
			t.Fatalf("token %d: %v", i, err)
		}
	}
	if used := heap() - before; used > tokenImagesCost || images.loaded.Cost() > tokenImagesCost {
		t.Errorf("%d MiB are in memory, said to be %d", used>>20, images.loaded.Cost()>>20)
	}
	if n := images.loaded.Len(); n < 20 {
		t.Errorf("%d images are in memory", n)
	}
	runtime.KeepAlive(images)
}

type grantsByToken map[auth.Token]*auth.Grant

func (g grantsByToken) Open(_ context.Context, t auth.Token) (*auth.Grant, error) { return g[t], nil }

// TestLargeImage: an image that is too large for memory is loaded for each request,
// which is charged as long as it lasts, and refused if that is too much.
func TestLargeImage(t *testing.T) {
	store := blobstore.NewMem()
	grant := storedGrant(t, store, ocispec.MediaTypeImageIndex, "")
	var children []string
	for i := range 4 {
		g := storedGrant(t, store, ocispec.MediaTypeImageManifest, manifestOf(4000+i, func(i int) string {
			return fmt.Sprintf(`,"mediaType":"a/%0200d"`, i)
		}))
		grant.Objects = append(grant.Objects, g.Root.Digest)
		children = append(children, string(encode(t, g.Root)))
	}
	index := storedGrant(t, store, ocispec.MediaTypeImageIndex, `{"manifests":[`+strings.Join(children, ",")+`]}`)
	index.Objects = append(index.Objects, grant.Objects...)
	images := newTokenImages(grantsByToken{"large": &index}, store, nil)
	ledger := budget.NewLedger(budget.Limits{budget.Memory: {Client: 24 << 20, All: 96 << 20}})
	for range 2 {
		ctx, end := context.WithCancel(budget.With(t.Context(), ledger.Open("a")))
		img, err := images.image(ctx, "large")
		if err != nil {
			t.Fatal(err)
		}
		if img.shared || ledger.Held(budget.Memory) != 0 {
			t.Fatalf("in memory %v, %d bytes are held", img.shared, ledger.Held(budget.Memory))
		}
		if err := img.holdFor(ctx); err != nil {
			t.Fatal(err)
		}
		if held := ledger.Held(budget.Memory); held < 4*4000*200 || held != img.cost {
			t.Errorf("%d bytes are held for an image of %d", held, img.cost)
		}
		end()
		for ledger.Held(budget.Memory) != 0 {
			runtime.Gosched()
		}
	}
	small := budget.NewLedger(budget.Limits{budget.Memory: {Request: 1 << 20}})
	_, err := images.image(budget.With(t.Context(), small.Open("a")), "large")
	if _, ok := errors.AsType[*budget.Exceeded](err); !ok || small.Held(budget.Memory) != 0 {
		t.Errorf("loaded within 1 MiB: %v, %d bytes are still held", err, small.Held(budget.Memory))
	}
}

// TestHostileDescriptors: a size below zero is refused where the document is read.
func TestHostileDescriptors(t *testing.T) {
	net := newNetwork(t)
	s := net.start()
	config := net.PutBlob("library/app", upstreamtest.Object{MediaType: ocispec.MediaTypeImageConfig, Data: []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["x"]}}`)})
	for i, size := range []string{"-1", "-9223372036854775808", "9223372036854775807"} {
		tag := fmt.Sprint("t", i)
		layer := digest.FromString("layer" + size)
		text := `{"schemaVersion":2,"config":` + string(encode(t, config.Descriptor())) + `,"layers":[{"digest":"` + layer.String() + `","size":` + size + `}]}`
		o := net.PutManifest("library/app", upstreamtest.Object{MediaType: ocispec.MediaTypeImageManifest, Data: []byte(text)}, tag)
		for _, ref := range []string{tag, o.Digest().String()} {
			if a := s.do("GET", toolsApp+ref); a.status != http.StatusBadRequest || !strings.Contains(string(a.body), o.Digest().String()) {
				t.Errorf("%s: status %d, %s", ref, a.status, a.body)
			}
		}
		if a := s.do("GET", "tools/library/app/blobs/"+layer.String()); a.status != http.StatusNotFound {
			t.Errorf("blob: status %d", a.status)
		}
	}
}
