package rootfs

import (
	"archive/tar"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

var (
	cases = flag.Int("cases", 200, "cases of TestLikeTar")
	seed  = flag.Uint64("seed", 1, "seed of the first case")
)

// TestLikeTar: what engines unpack from a base and layers that were placed over it is
// what tar leaves when it unpacks the layers into the base. Layers are placed each by
// itself, and all as one archive.
func TestLikeTar(t *testing.T) {
	from := copyTar(t)
	for i := range uint64(*cases) {
		t.Run(fmt.Sprint(*seed+i), func(t *testing.T) {
			t.Parallel()
			checkCase(t, from, *seed+i)
		})
	}
	t.Cleanup(func() {
		if n := int(undefined.Load()); n > *cases/5 {
			t.Errorf("%d of %d cases say nothing", n, *cases)
		}
	})
}

// undefined counts cases of which tar can make nothing.
var undefined atomic.Int64

func checkCase(t *testing.T, from string, seed uint64) {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0)), now: tree{}}
	var base, added [][]entry
	for i := range 1 + g.IntN(3) {
		base = append(base, g.layer(8-2*i, i > 0))
	}
	under := tree{}
	for _, l := range base {
		if err := under.unpack(l); err != nil {
			t.Fatal(err)
		}
	}
	for range 1 + g.IntN(2) {
		added = append(added, g.layer(6, true))
	}
	d := newDisk(t, from, under)
	var wanted error
	for _, l := range added {
		if wanted = d.unpack(l); wanted != nil {
			break
		}
	}
	if wanted != nil && !errors.Is(wanted, errLoop) {
		t.Logf("no case: %v", wanted) // tar removes a link that leads to the entry itself
		undefined.Add(1)
		return
	}
	want, err := d.list()
	if err != nil {
		t.Fatal(err)
	}
	show := func() string { return fmt.Sprintf("base %v\nadded %v", base, added) }
	got := maps.Clone(under)
	layers := base
	for _, l := range added {
		out, changed, err := placed(t, stackOf(t, layers), true, l)
		if err == nil && !changed {
			out = l
		}
		if refused(t, err, wanted) {
			return
		}
		if err := got.unpack(out); err != nil {
			t.Fatalf("%v\nof %v\n%s", err, out, show())
		}
		layers = append(slices.Clip(layers), out)
	}
	if wanted != nil {
		t.Fatalf("tar: %v\n%s", wanted, show())
	}
	if diff := difference(want, got); diff != "" {
		t.Errorf("tar's, and each layer by itself:\n%s%s\nplaced %v", diff, show(), layers[len(base):])
	}
}

// refused reports whether both have refused a loop, and fails if only one has.
func refused(t *testing.T, err, wanted error) bool {
	t.Helper()
	loop, ok := errors.AsType[*LoopError](err)
	if err != nil && !ok {
		t.Fatal(err)
	}
	if ok && !errors.Is(wanted, errLoop) {
		t.Fatalf("%v, but tar says %v", loop, wanted)
	}
	return ok
}

func difference(want, got tree) string {
	var b strings.Builder
	for _, name := range sorted(maps.Collect(func(yield func(string, item) bool) {
		for _, t := range []tree{want, got} {
			for name, i := range t {
				if !yield(name, i) {
					return
				}
			}
		}
	})) {
		if w, g := want[name], got[name]; w != g {
			fmt.Fprintf(&b, "%s: want %c %o %d:%d %q, got %c %o %d:%d %q\n", name, w.kind, w.mode, w.uid, w.gid, w.text, g.kind, g.mode, g.uid, g.gid, g.text)
		}
	}
	return b.String()
}

// generator makes layers.
type generator struct {
	*rand.Rand
	now   tree // roughly what all layers have so far
	files int
}

var elements = []string{"a", "b", "bin", "usr", "lib"}

func (g *generator) name() string {
	if g.IntN(10) < 7 && len(g.now) > 0 {
		in := g.known(0)
		if g.IntN(5) > 0 {
			return in + "/" + elements[g.IntN(len(elements))]
		}
		return in
	}
	name := elements[g.IntN(len(elements))]
	for g.IntN(2) == 0 {
		name += "/" + elements[g.IntN(len(elements))]
	}
	return name
}

// known returns a name that there is, of a kind unless that is 0.
func (g *generator) known(kind byte) string {
	var names []string
	for _, name := range sorted(g.now) {
		if kind == 0 || g.now[name].kind == kind {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "a"
	}
	return names[g.IntN(len(names))]
}

func (g *generator) layer(n int, markers bool) []entry {
	var out []entry
	own := map[string]byte{}
	for range 4 * n {
		if len(out) == n {
			break
		}
		e := g.entry(markers)
		if g.fits(e, own) {
			name := path.Clean(e.name)
			if _, _, marker := e.hides(); !marker {
				own[name] = e.kind
				g.now[name] = item{kind: e.kind}
			}
			out = append(out, e)
		}
	}
	return out
}

// fits reports whether engines can unpack a layer with the entry literally.
func (g *generator) fits(e entry, own map[string]byte) bool {
	name := path.Clean(e.name)
	if strings.Count(name, "/") > 5 {
		return false
	}
	if hidden, _, marker := e.hides(); marker {
		for other := range own {
			other = strings.TrimSuffix(other, "\x00")
			if other == hidden || strings.HasPrefix(other, hidden+"/") || strings.HasPrefix(hidden, other+"/") && own[other] != tar.TypeDir {
				return false
			}
		}
		own[hidden+"\x00"] = 'w'
		return true
	}
	if _, twice := own[name]; twice {
		return false
	}
	for other, kind := range own {
		if kind == 'w' && strings.HasPrefix(name+"/", strings.TrimSuffix(other, "\x00")+"/") ||
			kind != tar.TypeDir && strings.HasPrefix(name, other+"/") || e.kind != tar.TypeDir && strings.HasPrefix(other, name+"/") {
			return false
		}
	}
	return e.kind != tar.TypeLink || own[e.text] == tar.TypeReg
}

func (g *generator) entry(markers bool) entry {
	e := entry{name: g.name(), kind: tar.TypeReg, mode: 0o644}
	switch n := g.IntN(100); {
	case n < 30:
		e.kind, e.mode = tar.TypeDir, []int64{0o755, 0o755, 0o700, 0o1777, 0o711}[g.IntN(5)]
		if g.IntN(4) == 0 {
			e.uid, e.gid = 1000, 5
		}
	case n < 55:
		e.kind, e.mode, e.text = tar.TypeSymlink, 0o777, g.target(e.name)
	case n < 65 && markers:
		dir, base := path.Split(g.known(0))
		e.name = dir + ".wh." + base
		if g.IntN(3) == 0 {
			e.name = path.Join(g.known(tar.TypeDir), ".wh..wh..opq")
		}
	case n < 70:
		e.kind, e.text = tar.TypeLink, g.known(tar.TypeReg)
	default:
		g.files++
		e.text = fmt.Sprint(g.files)
	}
	return e
}

func (g *generator) target(name string) string {
	to := g.known([]byte{tar.TypeDir, tar.TypeSymlink, 0}[g.IntN(3)])
	if g.IntN(4) == 0 {
		to = g.name()
	}
	switch g.IntN(5) {
	case 0:
		return []string{".", "..", "/", "/..", "../.."}[g.IntN(5)]
	case 1, 2:
		return "/" + to
	}
	return strings.Repeat("../", strings.Count(name, "/")) + to
}
