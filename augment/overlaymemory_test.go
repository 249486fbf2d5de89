package augment

import (
	"archive/tar"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/budget"
)

// TestOverlayMemory: the names of a merge are charged before they take memory, and cost
// little however long they are. 300,000 files fit a client's share.
func TestOverlayMemory(t *testing.T) {
	const share = 64 << 20 // of a client, by default
	for name, test := range map[string]struct {
		layers, entries int
		format          string
	}{
		"one large layer": {1, 300_000, "opt/environment/lib/python3.12/site-packages/package/module/%010d.py"},
		"two of them":     {2, 300_000, "opt/environment/lib/python3.12/site-packages/package/module%d/%010d.py"},
		"long names":      {1, 100_000, strings.Repeat("dirs/", 220) + "%d"},
	} {
		t.Run(name, func(t *testing.T) {
			l := budget.NewLedger(budget.Limits{budget.Memory: {Request: share, Client: share, All: 4 * share}})
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			o := newOverlay(budget.With(t.Context(), l.Open("a")))
			for layer := range test.layers {
				for i := range test.entries {
					h := &tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf(test.format, i)}
					if test.layers > 1 {
						h.Name = fmt.Sprintf(test.format, layer, i)
					}
					if err := o.place(h, position{layer, i}); err != nil {
						t.Fatal(err)
					}
				}
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			used, held := int64(after.HeapAlloc)-int64(before.HeapAlloc), l.Held(budget.Memory)
			if used > held || held > maxOverlay {
				t.Errorf("%d bytes are used and %d held, of at most %d", used, held, int64(maxOverlay))
			}
			o.Release()
			if held := l.Held(budget.Memory); held != 0 {
				t.Errorf("%d bytes are held in the end", held)
			}
		})
	}
}

// TestOverlayBound: no budget lets an overlay beyond its bound.
func TestOverlayBound(t *testing.T) {
	o := newOverlay(t.Context())
	defer o.Release()
	var err error
	for i := 0; err == nil && i < 1e6; i++ {
		err = o.place(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprint(i)}, position{0, i})
	}
	refused(t, err, "names need more")
}

// TestRepackHolds: a merge holds the memory of its names until it has ended, well or not,
// and small ones are free.
func TestRepackHolds(t *testing.T) {
	m := newMemory()
	small := []Layer{m.layer(archive(file{name: "a"})), m.layer(archive(file{name: "b"}))}
	var many []file
	for i := range 20_000 {
		many = append(many, file{name: fmt.Sprint(i)})
	}
	large := []Layer{m.layer(archive(many...)), small[0]}
	for name, test := range map[string]struct {
		layers  []Layer
		limit   int64
		refused bool
	}{"small": {small, 1, false}, "large": {large, 1 << 20, true}, "fits": {large, 4 << 20, false}} {
		l := budget.NewLedger(budget.Limits{budget.Memory: {Client: test.limit, All: 64 << 20}})
		_, err := repackOver(budget.With(t.Context(), l.Open("a")), m, test.layers)
		if e, ok := errors.AsType[*budget.Exceeded](err); ok != test.refused || ok && e.Kind != budget.Memory || !ok && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if held := l.Held(budget.Memory); held != 0 {
			t.Errorf("%s: %d bytes are held in the end", name, held)
		}
	}
}
