package rootfs

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"archive/tar"

	"github.com/waveproxy/waveproxy/layerindex"
)

// landings returns where each of the entries lands, and what is written beside them, in
// the order of names. ok is false if one is in a loop, or is a link that is left out
// because it would lead to itself.
func landings(p *Placer, x *layerindex.Index, entries []layerindex.Entry) (found []string, ok bool) {
	if p.Layer(x) != nil {
		return nil, false
	}
	lines := map[string]bool{fmt.Sprint("changed ", false): true}
	for _, e := range entries {
		placed, err := p.Place(e, true)
		if err != nil || e.Kind == layerindex.Link && placed.Drop {
			return nil, false
		}
		for _, b := range placed.Before {
			lines[fmt.Sprintf("before %+v", b)] = true
		}
		attributes := ""
		if placed.Attributes != nil {
			attributes = fmt.Sprintf("%+v", *placed.Attributes)
		}
		lines[fmt.Sprintf("%s: %s %d %t %q %s", e.Name, placed.Name, placed.Kind, placed.Drop, placed.Target, attributes)] = true
	}
	lines[fmt.Sprint("changed ", p.Changed())] = true
	return slices.Sorted(maps.Keys(lines)), true
}

// TestOrder: where the order of entries is said not to matter, they land alike in the
// order of the archive and in that of their names.
func TestOrder(t *testing.T) {
	matters, alike := 0, 0
	for seed := range uint64(1000) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 1)), now: tree{}}
		var base [][]entry
		for range 1 + g.IntN(2) {
			base = append(base, g.layer(8, false))
		}
		added := g.layer(6, false)
		x := indexOf(t, added)
		if !x.Simple() {
			continue
		}
		var inArchive []layerindex.Entry
		for _, e := range added {
			inArchive = append(inArchive, e.indexed())
		}
		p := NewPlacer(stackOf(t, base))
		p.Watch(x)
		byName, ok := landings(p, x, slices.Collect(x.All()))
		if !ok || orderMatters(t, p) { // what a loop is may depend on the order, too
			matters++
			continue
		}
		literally, ok := landings(NewPlacer(stackOf(t, base)), x, inArchive)
		if ok && !slices.Equal(byName, literally) {
			t.Errorf("seed %d, base %v, added %v: by name\n%q\nin the archive's order\n%q", seed, base, added, byName, literally)
			continue
		}
		alike++
	}
	if matters < 5 || alike < 250 {
		t.Errorf("in %d cases the order mattered, in %d it did not", matters, alike)
	}
	t.Logf("the order mattered in %d cases of %d", matters, matters+alike)
}

// TestOrderMatters: links of the base lead entries to what others of the layer make, and
// layers as they are most often do not.
func TestOrderMatters(t *testing.T) {
	merged := []entry{{name: "usr/bin", kind: tar.TypeDir, mode: 0o755}, {name: "bin", kind: tar.TypeSymlink, text: "usr/bin"}, {name: "c", kind: tar.TypeDir, mode: 0o755}, {name: "c/usr", kind: tar.TypeSymlink, text: "../c"}}
	for name, test := range map[string]struct {
		added []entry
		want  bool
	}{
		"literal":                  {[]entry{{name: "usr/bin", kind: tar.TypeDir, mode: 0o755}, {name: "usr/bin/x", kind: tar.TypeReg}}, false},
		"through one link":         {[]entry{{name: "bin", kind: tar.TypeDir, mode: 0o755}, {name: "bin/d", kind: tar.TypeDir, mode: 0o700}, {name: "bin/d/x", kind: tar.TypeReg}, {name: "bin/l", kind: tar.TypeSymlink, text: "d/x"}}, false},
		"by both names, apart":     {[]entry{{name: "bin/x", kind: tar.TypeReg}, {name: "usr/bin/y", kind: tar.TypeReg}, {name: "usr/share/z", kind: tar.TypeReg}}, false},
		"a directory by both":      {[]entry{{name: "bin/d", kind: tar.TypeDir, mode: 0o700}, {name: "usr/bin/d/x", kind: tar.TypeReg}}, true},
		"a link of the layer":      {[]entry{{name: "bin/l", kind: tar.TypeSymlink, text: "/opt"}, {name: "usr/bin/l/x", kind: tar.TypeReg}}, true},
		"a link replaces its way":  {[]entry{{name: "c/usr/usr", kind: tar.TypeSymlink, text: "/./c//a/"}, {name: "c/usr/bin/bin", kind: tar.TypeReg}}, true},
		"behind the text of links": {[]entry{{name: "bin/x", kind: tar.TypeReg}, {name: "usr", kind: tar.TypeSymlink, text: "opt"}}, true},
	} {
		x := indexOf(t, test.added)
		p := NewPlacer(stackOf(t, [][]entry{merged}))
		p.Watch(x)
		if _, ok := landings(p, x, slices.Collect(x.All())); !ok || !x.Simple() {
			t.Fatalf("%s: is no case", name)
		}
		if got := orderMatters(t, p); got != test.want {
			t.Errorf("%s: the order matters: %t", name, got)
		}
		if left := p.Bytes(); left < 0 {
			t.Errorf("%s: %d bytes are left", name, left)
		}
	}
}

func orderMatters(t *testing.T, p *Placer) bool {
	t.Helper()
	matters, err := p.OrderMatters()
	if err != nil {
		t.Fatal(err)
	}
	return matters
}
