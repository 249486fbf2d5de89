package augment

import (
	"archive/tar"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/waveproxy/waveproxy/budget"
)

// TestOverlayMemory: the names of a merge are charged before they take memory, and cost
// little however long they are. Layers with six times these entries, 300,000, fit a client's
// share: memory grows with their number, and with nothing else.
func TestOverlayMemory(t *testing.T) {
	const (
		share = 64 << 20 // of a client, by default
		times = 6
	)
	for name, test := range map[string]struct {
		layers, entries int
		format          string
	}{
		"one large layer": {1, 300_000 / times, "opt/environment/lib/python3.12/site-packages/package/module/%010d.py"},
		"two of them":     {2, 300_000 / times, "opt/environment/lib/python3.12/site-packages/package/module%d/%010d.py"},
		"long names":      {1, 100_000 / times, strings.Repeat("dirs/", 220) + "%d"},
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
			if used > held || times*held > maxOverlay || times*o.names > maxNames {
				t.Errorf("%d bytes are used and %d held, of at most %d; the names have %d", used, held, int64(maxOverlay/times), o.names)
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
	// with places a name when there are others of so many bytes.
	with := func(bytes int) error {
		var k key
		for i := range bytes / nodeCost {
			binary.LittleEndian.PutUint64(k[:], uint64(i))
			o.nodes[k] = node{}
		}
		return o.place(&tar.Header{Typeflag: tar.TypeReg, Name: "x"}, position{0, 0})
	}
	if err := with(maxOverlay - overlayStep); err != nil {
		t.Error(err)
	}
	refused(t, with(maxOverlay+freeOverlay), "names need more")
}

// TestRepackHolds: a merge holds the memory of its names until it has ended, well or not,
// and small ones are free.
func TestRepackHolds(t *testing.T) { inOneTurn(t, testRepackHolds) }

// inOneTurn runs f where no time passes while it works, however slow the machine is. An
// archive that outlasts its turn is charged for what it keeps while others have theirs.
func inOneTurn(t *testing.T, f func(t *testing.T)) { synctest.Test(t, f) }

func testRepackHolds(t *testing.T) {
	m := newMemory()
	small := []Layer{m.layer(archive(file{name: "a"})), m.layer(archive(file{name: "b"}))}
	var many []file
	for i := range 8_000 {
		many = append(many, file{name: fmt.Sprint(i)})
	}
	large := []Layer{m.layer(archive(many...)), small[0]}
	for name, test := range map[string]struct {
		layers  []Layer
		limit   int64
		refused bool
	}{"small": {small, 1, false}, "large": {large, 1 << 18, true}, "fits": {large, 4 << 20, false}} {
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
