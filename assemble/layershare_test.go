package assemble

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/augment/archivetest"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/layerindex"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// TestAddedIndex: the index of an added layer comes from the archives, staged or stored, is
// recorded if the layer is large, and a damaged layer is not believed.
func TestAddedIndex(t *testing.T) {
	f := newFixture(t)
	staged, recipe := f.staged(t, "opt/tool")
	added := recipe.Layers[0]
	x := f.indexer(base).indexes
	ask := func(l augment.Layer, archives augment.Archives) (*layerindex.Index, error) {
		index, release, err := x.added(t.Context(), archives, l)
		if err == nil {
			release()
		}
		return index, err
	}
	index, err := ask(added, archives{staged: staged, made: blobstore.NewMem(), store: f.store, recent: newRecent()})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := index.Find("opt/tool"); !ok {
		t.Error("opt/tool is not in it")
	}
	if _, err := f.store.Record(t.Context(), indexRecord(ofAdded, "", added.Digest)); err == nil {
		t.Error("the index of a small layer is recorded")
	}
	large := archivetest.Stored(t, archivetest.Tar(t, archivetest.File{Name: "large", Text: strings.Repeat("x", 300<<10)}))
	l := augment.Layer{Digest: digest.FromBytes(large), Size: int64(len(large))}
	if err := f.store.Put(t.Context(), l.Digest, bytes.NewReader(large)); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(l, f.store); err != nil {
		t.Fatal(err)
	}
	if _, err := f.store.Record(t.Context(), indexRecord(ofAdded, "", l.Digest)); err != nil {
		t.Errorf("the index of a large layer: %v", err)
	}
	wrong := augment.Layer{Digest: digest.FromString("wrong"), Size: int64(len(large))}
	if _, err := ask(wrong, mislabeled{f.store, l.Digest}); err == nil || !strings.Contains(err.Error(), wrong.Digest.String()) {
		t.Errorf("a damaged layer: %v", err)
	}
	f.registry.WantRequests(t)
}

// TestLargeIndexesAreShared: requests that use the index of one large layer at a time are
// charged for it once, until the last one ends.
func TestLargeIndexesAreShared(t *testing.T) {
	f := newFixture(t)
	var files []archivetest.File
	for i := range 20_000 {
		files = append(files, archivetest.File{Name: "d/" + digest.FromString(fmt.Sprint(i)).Encoded()})
	}
	d := f.pushLayer("library/base", archivetest.Stored(t, archivetest.Tar(t, files...)))
	bases := f.indexer(base).bases
	ledger := budget.NewLedger(budget.Limits{budget.Memory: {Client: 16 << 20, Request: 16 << 20, All: 64 << 20}})
	var requests []*chargedSource
	for i := range 50 {
		src := &chargedSource{baseSource: bases.repository(base)}
		requests = append(requests, src)
		if _, err := src.Index(budget.With(t.Context(), ledger.Open("a")), d); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
	}
	held := ledger.Held(budget.Memory)
	if held < indexesCost/16 || held > 8<<20 {
		t.Errorf("%d bytes are held", held)
	}
	for _, src := range requests {
		if ledger.Held(budget.Memory) != held {
			t.Fatal("released before the last request ended")
		}
		src.release()
	}
	// Shared work goes on when the request that began it has ended.
	if _, err := requests[0].Index(budget.With(t.Context(), ledger.Open("a")), d); err != nil {
		t.Error(err)
	}
	if ledger.Held(budget.Memory) != 0 || len(bases.indexes.large) != 0 {
		t.Errorf("%d bytes are held in the end", ledger.Held(budget.Memory))
	}
	f.registry.WantRequests(t, blob("GET", d.Digest))
}

// TestChargeOfSharedIndexes: a large index is charged to a request that uses it: when the first
// one ends, to the next, in whatever order they end.
func TestChargeOfSharedIndexes(t *testing.T) {
	f := newFixture(t)
	var files []archivetest.File
	for i := range 38_000 {
		files = append(files, archivetest.File{Name: "d/" + digest.FromString(fmt.Sprint(i)).Encoded()})
	}
	d := f.pushLayer("library/base", archivetest.Layer(t, files...))
	bases := f.indexer(base).bases
	for name, order := range map[string][]int{"in turn": {0, 1, 2}, "the last one first": {2, 0, 1}, "the second one first": {1, 0, 2}} {
		ledger := budget.NewLedger(budget.Limits{budget.Memory: {Client: 32 << 20, All: 128 << 20}})
		requests := map[int]*chargedSource{}
		for i := range 3 {
			requests[i] = &chargedSource{baseSource: bases.repository(base)}
			if _, err := requests[i].Index(budget.With(t.Context(), ledger.Open(fmt.Sprint(i))), d); err != nil {
				t.Fatal(err)
			}
		}
		held := ledger.Held(budget.Memory)
		charged := func(i int) bool {
			release, err := ledger.Open(fmt.Sprint(i)).Hold(budget.Memory, 32<<20)
			if err == nil {
				release()
			}
			return err != nil
		}
		for n, i := range order {
			requests[i].release()
			delete(requests, i)
			stay := 0
			for i := range 3 {
				if _, uses := requests[i]; charged(i) && !uses {
					t.Errorf("%s: client %d is charged and has ended", name, i)
				} else if charged(i) {
					stay++
				}
			}
			if last := n == len(order)-1; last && ledger.Held(budget.Memory) != 0 || !last && (stay != 1 || ledger.Held(budget.Memory) != held) {
				t.Errorf("%s: %d clients are charged for %d bytes after %d have ended", name, stay, ledger.Held(budget.Memory), n+1)
			}
		}
	}
}

// TestReadsAtOnce: no more layers of one client are read at a time than there are places, and
// the others wait instead of being refused.
func TestReadsAtOnce(t *testing.T) {
	f := newFixture(t)
	var mu sync.Mutex
	running, most := 0, 0
	layers := map[string][]byte{}
	f.registry.Answer(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		running++
		most = max(most, running)
		data := layers[r.URL.Path]
		mu.Unlock()
		time.Sleep(5 * time.Millisecond)
		mu.Lock()
		running--
		mu.Unlock()
		_, _ = w.Write(data)
	})
	source := f.indexer(base)
	ctx := budget.With(t.Context(), budget.NewLedger(budget.Limits{}).Open("a"))
	var wg sync.WaitGroup
	for i := range 60 {
		data := archivetest.Layer(t, archivetest.File{Name: fmt.Sprint(i)})
		d := ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
		mu.Lock()
		layers[upstreamtest.BlobPath("library/base", d.Digest)] = data
		mu.Unlock()
		wg.Go(func() {
			if _, err := source.Index(ctx, d); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most > readsAtOnce || most < 2 {
		t.Errorf("%d layers were read at a time", most)
	}
}

// mislabeled has one archive under every digest.
type mislabeled struct {
	augment.Archives
	has digest.Digest
}

func (m mislabeled) Open(ctx context.Context, _ digest.Digest) (io.ReadSeekCloser, error) {
	return m.Archives.Open(ctx, m.has)
}
