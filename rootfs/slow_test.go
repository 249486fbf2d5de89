package rootfs

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/layerindex"
)

// slowStack looks names up without remembering what hides them: at each layer it asks for
// every directory above the name. It is the oracle of Stack.
type slowStack struct{ layers []*layerindex.Index }

func (s slowStack) child(in []int, name string) (n Node, bottom int) {
	named := false
layers:
	for _, i := range in {
		x := s.layers[i]
		e, ok := x.Find(name)
		switch {
		case ok && e.Kind != layerindex.Dir:
			if n.Kind == Dir {
				bottom = i + 1
				break layers
			}
			if e.Kind == layerindex.Link {
				return Node{Kind: Link, Entry: e}, i
			}
			return Node{Kind: Other, Entry: e}, i
		case ok && n.Kind == Absent:
			n, named = Node{Kind: Dir, Entry: e}, true
		case ok && !named:
			n.Entry, named = e, true
		case !ok && n.Kind == Absent && x.Implies(name):
			n = Node{Kind: Dir, Implied: true}
		}
		if bottom = i; !x.Simple() && x.Hides(name) {
			break
		}
	}
	if n.Kind == Dir && !named {
		n.Entry, n.Implied, n.Unnamed = plainDir(name), false, true
	}
	return n, bottom
}

func (s slowStack) open(in []int, name string, bottom int) (d []int) {
	filled := false
	for _, i := range in {
		if i < bottom {
			break
		}
		x := s.layers[i]
		below := x.HasBelow(name)
		filled = filled || below
		if below || !x.Simple() {
			d = append(d, i)
		}
	}
	if !filled {
		return nil
	}
	return d
}

func (s slowStack) lookup(name string) Node {
	var in []int
	for i := range slices.Backward(s.layers) {
		in = append(in, i)
	}
	for i := 0; ; i++ {
		slash := strings.IndexByte(name[i:], '/')
		if slash < 0 {
			n, _ := s.child(in, name)
			return n
		}
		i += slash
		n, bottom := s.child(in, name[:i])
		if n.Kind != Dir {
			return Node{}
		}
		if in = s.open(in, name[:i], bottom); in == nil {
			return Node{}
		}
	}
}

func (s slowStack) mixed(name string) bool {
	return slices.ContainsFunc(s.layers, func(x *layerindex.Index) bool {
		_, found := x.Find(name)
		return found || x.Implies(name) || x.Hides(name)
	})
}

// anyLayer returns a layer of any entries, whatever engines make of them: below files, twice,
// below what the layer removes.
func anyLayer(t *testing.T, g *generator) *layerindex.Index {
	t.Helper()
	var entries []entry
	for range 1 + g.IntN(7) {
		e := g.entry(true)
		if e.name == "" || strings.HasPrefix(e.name, "/") || strings.Contains(e.name, "..") {
			continue
		}
		if g.IntN(12) == 0 {
			e = f(".wh..wh..opq")
		}
		entries = append(entries, e)
		if _, _, marker := e.hides(); !marker {
			g.now[strings.TrimSuffix(e.name, "/")] = item{kind: e.kind}
		}
	}
	return indexOf(t, entries)
}

// TestLikeSlow: what is remembered of directories makes no difference, for stacks of any
// layers.
func TestLikeSlow(t *testing.T) {
	kinds := map[Kind]int{}
	mixed := map[bool]int{}
	for seed := range uint64(600) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 7)), now: tree{}}
		s := NewStack()
		for range 2 + g.IntN(5) {
			s = s.With(anyLayer(t, g))
		}
		slow, p := slowStack{s.layers}, NewPlacer(s)
		for _, a := range elements {
			for _, name := range []string{a, a + "/a", a + "/b", a + "/usr/lib", a + "/a/b", a + "/bin/usr/a", a + "/lib/b/a/bin"} {
				got, want := s.Lookup(name), slow.lookup(name)
				kinds[want.Kind]++
				if !reflect.DeepEqual(got, want) {
					t.Fatalf("seed %d: %s is %+v, want %+v", seed, name, got, want)
				}
				at, ok := p.follow(name, &walk{})
				if !ok || at == p.root {
					continue
				}
				mixed[slow.mixed(at.name)]++
				if p.mixed(at) != slow.mixed(at.name) {
					t.Fatalf("seed %d: %s is mixed: %v", seed, at.name, p.mixed(at))
				}
			}
		}
	}
	for _, n := range []int{kinds[Absent], kinds[Dir], kinds[Link], kinds[Other], mixed[true], mixed[false]} {
		if n < 200 {
			t.Errorf("too few cases: %v, %v", kinds, mixed)
		}
	}
}
