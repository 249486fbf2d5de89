package augment

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/layerindex"
)

// usrMerged is a memory with an image whose bin is a link, and a layer with entries
// below bin.
func usrMerged() (*memory, Layer) {
	m := newMemory()
	base := m.layer(archive(file{name: "bin", link: "usr/bin", kind: tar.TypeSymlink}))
	config := m.add(ocispec.MediaTypeImageConfig, fmt.Sprintf(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[%q]}}`, base.DiffID))
	m.add(ocispec.MediaTypeImageManifest, fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
		descriptor(config), ocispec.MediaTypeImageLayerGzip, base.Digest, base.Size), "1")
	return m, m.layer(archive(file{name: "bin/tool", text: "tool"}))
}

// slow is a Source and an Archives that count what runs and need a second for each
// answer. Once it is gone, archives cannot be opened.
type slow struct {
	*memory
	mu           sync.Mutex
	layers, puts int
	gone         bool
}

func (s *slow) Index(ctx context.Context, d ocispec.Descriptor) (*layerindex.Index, error) {
	release, err := budget.From(ctx).Hold(budget.Fetches, 1)
	if err != nil {
		return nil, err
	}
	defer release()
	s.mu.Lock()
	s.layers++
	s.mu.Unlock()
	time.Sleep(time.Second)
	return s.memory.Index(ctx, d)
}

func (s *slow) Open(ctx context.Context, d digest.Digest) (io.ReadSeekCloser, error) {
	time.Sleep(time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return nil, errors.New("the archives are gone")
	}
	return s.memory.Open(ctx, d)
}

func (s *slow) Put(ctx context.Context, d digest.Digest, r io.Reader) error {
	s.mu.Lock()
	s.puts++
	s.mu.Unlock()
	return s.memory.Put(ctx, d, r)
}

// TestPrepareIsShared: tasks that ask for one image at once read its base layer and
// rewrite their layer once for each client and access.
func TestPrepareIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, layer := usrMerged()
		s := &slow{memory: m}
		ledger := budget.NewLedger(budget.Limits{budget.Fetches: {Client: 4}})
		augmenter := NewAugmenter(125)
		var callers sync.WaitGroup
		ask := func(client, access string) {
			ctx := budget.With(t.Context(), ledger.Open(client))
			_, err := augmenter.Apply(ctx, s, Request{Name: "x:1", Reference: "1", Access: access, Recipe: Recipe{Layers: []Layer{layer}}, Archives: s})
			if err != nil {
				t.Errorf("%s, %s: %v", client, access, err)
			}
		}
		for range 200 {
			callers.Go(func() { ask("ann", "reader") })
		}
		callers.Go(func() { ask("ann", "other reader") })
		callers.Go(func() { ask("bob", "reader") })
		callers.Wait()
		if s.layers != 3 || s.puts != 3 {
			t.Errorf("the base layer was read %d times and %d layers were stored, want 3 of each", s.layers, s.puts)
		}
	})
}

// TestPrepareOutlivesItsFirstCaller: archives that leave with the caller that started
// a run do not fail the others.
func TestPrepareOutlivesItsFirstCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, layer := usrMerged()
		first, second := &slow{memory: m}, &slow{memory: m}
		augmenter := NewAugmenter(125)
		ask := func(ctx context.Context, s *slow) <-chan error {
			ended := make(chan error, 1)
			go func() {
				_, err := augmenter.Apply(ctx, s, Request{Name: "x:1", Reference: "1", Recipe: Recipe{Layers: []Layer{layer}}, Archives: s})
				ended <- err
			}()
			return ended
		}
		ctx, leave := context.WithCancel(t.Context())
		one := ask(ctx, first)
		time.Sleep(1500 * time.Millisecond) // it rewrites the layer
		two := ask(t.Context(), second)
		synctest.Wait()
		leave()
		first.mu.Lock()
		first.gone = true
		first.mu.Unlock()
		if err := <-one; !errors.Is(err, context.Canceled) {
			t.Errorf("the caller that left got %v", err)
		}
		if err := <-two; err != nil {
			t.Errorf("the caller that stayed got %v", err)
		}
	})
}

// TestRepackedAnew: a rewritten layer that is lost or damaged is made anew by the next
// request for it, and is not made again while it is there.
func TestRepackedAnew(t *testing.T) {
	m, layer := usrMerged()
	s := &slow{memory: m}
	augmenter := NewAugmenter(125)
	apply := func() digest.Digest {
		img, err := augmenter.Apply(t.Context(), s, Request{Name: "x:1", Reference: "1", Recipe: Recipe{Layers: []Layer{layer}}, Archives: m})
		if err != nil {
			t.Fatal(err)
		}
		return img.Layers[0].Digest
	}
	made := apply()
	kept := m.archives[made]
	for name, harm := range map[string]func(){
		"lost":    func() { delete(m.archives, made) },
		"damaged": func() { m.archives[made] = kept[:len(kept)-1] },
	} {
		harm()
		if again := apply(); again != made || m.Verify(t.Context(), made) != nil {
			t.Errorf("%s: the layer is not made anew", name)
		}
	}
	m.archives[layer.Digest] = nil
	if apply() != made { // it cannot be made any more
		t.Error("the layer that is there is not taken")
	}
}
