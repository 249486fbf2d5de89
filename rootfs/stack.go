package rootfs

import (
	"maps"
	"slices"
	"strings"

	"github.com/waveproxy/waveproxy/layerindex"
)

// Kind is what stands at a name.
type Kind uint8

const (
	Absent Kind = iota
	Dir
	Link  // symbolic
	Other // a file or a device
)

// Node is what the layers of an image have together at a name.
type Node struct {
	Kind Kind
	// Entry has the target of a link, and the attributes of a directory: 0755 and root
	// if no layer names it.
	Entry layerindex.Entry
	// Implied says that the uppermost layer with the directory does not name it, but
	// only something below it, and a lower layer names it. Engines disagree on what such a
	// directory keeps of the attributes that the lower layer gives it.
	Implied bool
	// Unnamed says that no layer names the directory. Below one with the set-group-ID bit,
	// it is not 0755 and root in engines, but has the bit and the group.
	Unnamed bool
}

// Stack is the layers of an image, as they stand together. It is immutable.
type Stack struct {
	layers []*layerindex.Index // bottom first
}

// NewStack returns the layers, the bottom first.
func NewStack(layers ...*layerindex.Index) *Stack { return &Stack{layers: layers} }

// With returns the stack with one more layer on top.
func (s *Stack) With(layer *layerindex.Index) *Stack {
	return &Stack{layers: append(s.layers[:len(s.layers):len(s.layers)], layer)}
}

// Lookup returns what stands at a cleaned, relative name. Links are not followed: what
// is below one is absent.
func (s *Stack) Lookup(name string) Node {
	if name == "." {
		return s.rootNode()
	}
	in := s.root()
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

// dir is a directory of a stack: the layers that have something below it which shows, the
// uppermost first. A layer that hides what is below the directory is the last one, so no
// directory above a name need be looked at again.
type dir struct{ layers []int }

func (s *Stack) root() *dir {
	d := &dir{}
	for i := len(s.layers) - 1; i >= 0; i-- {
		d.layers = append(d.layers, i)
		if x := s.layers[i]; !x.Simple() && x.HidesBelow(".") {
			break
		}
	}
	return d
}

// rootNode returns the root directory.
func (s *Stack) rootNode() Node {
	for i := len(s.layers) - 1; i >= 0; i-- {
		if e, ok := s.layers[i].Find("."); ok && e.Kind == layerindex.Dir {
			return Node{Kind: Dir, Entry: e}
		}
	}
	return Node{Kind: Dir, Entry: plainDir(".")}
}

// child returns what stands at the name, which is in the directory. Of a directory,
// layers below bottom have nothing that shows.
func (s *Stack) child(in *dir, name string) (n Node, bottom int) {
	named := false
layers:
	for _, i := range in.layers {
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
		if bottom = i; !x.Simple() && x.Removes(name) {
			break
		}
	}
	if n.Kind == Dir && !named {
		n.Entry, n.Implied, n.Unnamed = plainDir(name), false, true
	}
	return n, bottom
}

// open returns the directory at the name, which is in another one; nil if nothing is in
// it.
func (s *Stack) open(in *dir, name string, bottom int) *dir {
	d := &dir{}
	filled, hidden := false, false
	for _, i := range in.layers {
		if i < bottom {
			break
		}
		x := s.layers[i]
		below := x.HasBelow(name)
		filled = filled || below
		if hidden {
			continue
		}
		if below || !x.Simple() && x.Implies(name) {
			d.layers = append(d.layers, i)
		}
		hidden = !x.Simple() && x.HidesBelow(name)
	}
	if !filled {
		return nil
	}
	return d
}

// plainDir is a directory as engines make it if no layer names it.
func plainDir(name string) layerindex.Entry {
	return layerindex.Entry{Name: name, Kind: layerindex.Dir, Mode: 0o755}
}

// sameAttributes reports whether two directories have the same mode, owner and
// extended attributes. Times do not count: every engine sets them anew when it puts
// something into a directory.
func sameAttributes(a, b layerindex.Entry) bool {
	const permissions = 0o7777
	return a.Mode&permissions == b.Mode&permissions && a.UID == b.UID && a.GID == b.GID && maps.Equal(a.Xattrs, b.Xattrs)
}

// mixed reports whether a layer by itself has something at the name, or removes it.
func (s *Stack) mixed(name string) bool {
	return slices.ContainsFunc(s.layers, func(x *layerindex.Index) bool {
		_, found := x.Find(name)
		return found || x.Implies(name) || x.Removes(name)
	})
}

// hidesBelow reports whether a layer by itself hides what is below the name.
func (s *Stack) hidesBelow(name string) bool {
	return slices.ContainsFunc(s.layers, func(x *layerindex.Index) bool { return x.HidesBelow(name) })
}

// join returns the name of something in a directory.
func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}
