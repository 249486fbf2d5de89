package assemble

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// TestDocumentsCharged: a request that makes, includes or inspects an image holds the
// memory of its documents, and no longer than that takes.
func TestDocumentsCharged(t *testing.T) {
	f := newFixture(t)
	img := f.registry.PushImage(t, "library/base", "amd64", nil, "small")
	large := strings.Replace(string(img.Manifest.Data), `"schemaVersion"`, `"x":"`+strings.Repeat("x", 1<<20)+`","schemaVersion"`, 1)
	f.registry.PutManifest("library/base", upstreamtest.Object{MediaType: img.Manifest.MediaType, Data: []byte(large)}, "large")
	ledger := budget.NewLedger(budget.Limits{budget.Memory: {Request: 3 << 20, All: 64 << 20}})
	for name, run := range map[string]func(tag string) error{
		"resolve": func(tag string) error {
			_, err := f.resolver.Resolve(budget.With(t.Context(), ledger.Open("a")), ImageRequest{Ref: parse(t, "base:"+tag), Staged: f.store})
			return err
		},
		"include": func(tag string) error {
			_, err := f.resolver.IncludedLayers(budget.With(t.Context(), ledger.Open("a")), "", parse(t, "base:"+tag), nil)
			return err
		},
		"inspect": func(tag string) error {
			_, err := f.resolver.Inspect(budget.With(t.Context(), ledger.Open("a")), "", parse(t, "base:"+tag), nil)
			return err
		},
	} {
		if err := run("small"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if e, ok := errors.AsType[*budget.Exceeded](run("large")); !ok || e.Kind != budget.Memory {
			t.Errorf("%s of a large document is not refused", name)
		}
		eventually(t, name+": memory is still held", func() bool { return ledger.Held(budget.Memory) == 0 })
	}
}

// TestMadeCharged: a request holds the memory of the documents that it makes, however
// small the base image's are, until they are stored.
func TestMadeCharged(t *testing.T) {
	f := newFixture(t)
	var architectures []string
	for i := range 40 {
		architectures = append(architectures, fmt.Sprint("a", i))
	}
	f.registry.PushIndex(t, "library/base", "many", "text", architectures...)
	recipe := augment.Recipe{Env: []string{"X=" + strings.Repeat("x", 200<<10)}}
	for limit, refused := range map[int64]bool{6 << 20: true, 64 << 20: false} {
		ledger := budget.NewLedger(budget.Limits{budget.Memory: {Request: limit, All: 256 << 20}})
		_, err := f.resolver.Resolve(budget.With(t.Context(), ledger.Open("a")), ImageRequest{Ref: parse(t, "base:many"), Recipe: recipe, Staged: f.store})
		if e, ok := errors.AsType[*budget.Exceeded](err); ok != refused || ok && e.Kind != budget.Memory || !ok && err != nil {
			t.Errorf("8 MiB of documents, where %d MiB may be held: %v", limit>>20, err)
		}
		// Reads that all other callers have left end by themselves.
		eventually(t, "memory is still held", func() bool { return ledger.Held(budget.Memory) == 0 })
	}
}

// TestBasesMemory: what is remembered of base images is bounded in bytes.
func TestBasesMemory(t *testing.T) {
	f := newFixture(t)
	src := f.resolver.Source(auth.Target{Registry: "docker.io", Repository: "library/base"})
	var before, after runtime.MemStats
	var digests []string
	for i := range 400 {
		text := fmt.Sprintf(`{"i":%d,"x":%q}`, i, strings.Repeat("x", 120<<10))
		o := f.registry.PutManifest("library/base", upstreamtest.Object{MediaType: ocispec.MediaTypeImageManifest, Data: []byte(text)})
		digests = append(digests, o.Digest().String())
	}
	runtime.GC()
	runtime.ReadMemStats(&before)
	for _, d := range digests {
		if _, err := src.Manifest(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	f.registry.TakeRequests()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if used := int64(after.HeapAlloc) - int64(before.HeapAlloc); used > objectsCost+4<<20 {
		t.Errorf("%d MiB are remembered", used>>20)
	}
	if n := f.resolver.bases.objects.Len(); n < 100 {
		t.Errorf("%d objects are remembered", n)
	}
}
