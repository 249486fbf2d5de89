package augment

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"iter"
	"path"
	"slices"
	"strings"
)

const (
	// maxNames bounds the names of all entries, in bytes, because each takes time to hash.
	// 700,000 names of 127 bytes fit, which is more than the largest layers have.
	maxNames = 128 << 20
	// nodeCost and linkCost are the most that a name and a hard link take, in bytes: a map
	// that has just grown is half empty.
	nodeCost = 72
	linkCost = 36
)

// key stands for a name. It is a hash of the parent's key and the last component,
// because names may be kilobytes each. It is cryptographic, because strangers choose
// the names: two that have one key would be taken for one file.
type key [16]byte

// overlay knows, for each name, which entry counts when layers are stacked. It holds its
// memory in the budget of its context until it is released.
type overlay struct {
	nodes map[key]node
	links []hardLink // in the order of their entries
	late  lateDirs
	root  int // the last layer that hides everything in lower layers
	top   int // the uppermost layer so far
	names int // bytes of all names so far
	heldMemory

	dir     string // the directory whose keys are in path
	path    []key
	scratch []byte
}

// node is what is known of a name. A recipe has at most maxChildren layers, and a layer
// fewer entries than DefaultLimits allow.
type node struct {
	entry uint32 // that counts
	below bool   // of a directory: something below it came after it
	layer uint16 // of the entry, and one more; 0: there is no entry
	cover uint16 // the last layer that hides what lower layers have below the name, and one more; 0: none
	dir   bool
}

func (n node) is(at position) bool { return int(n.layer) == at.layer+1 && int(n.entry) == at.entry }

// hardLink is a hard link to an entry of the same layer.
type hardLink struct {
	from, to uint32
	layer    uint16
}

// newOverlay returns an empty overlay. Release must be called when it is not needed any
// more.
func newOverlay(ctx context.Context) *overlay {
	return &overlay{heldMemory: holdMemory(ctx), nodes: map[key]node{}}
}

// child returns the key of a name in a directory.
func (o *overlay) child(dir key, name ...string) key {
	o.scratch = append(o.scratch[:0], dir[:]...)
	for _, s := range name {
		o.scratch = append(o.scratch, s...)
	}
	sum := sha256.Sum256(o.scratch)
	return key(sum[:len(key{})])
}

// place adds an entry, which replaces what lower layers have at its name. Within
// one archive the last entry of a name wins, as it does when unpacking. Errors are
// *Error, or *budget.Exceeded when its memory is refused.
func (o *overlay) place(h *tar.Header, at position) error {
	if o.names += len(h.Name) + 64; o.names > maxNames {
		return Errorf("layers cannot be rewritten: the names of their entries are more than %d bytes", maxNames)
	}
	o.top = at.layer
	dirs, self := o.keys(h.Name)
	var in key
	if len(dirs) > 0 {
		in = dirs[len(dirs)-1]
	}
	base := path.Base(h.Name)
	hidden, isWhiteout := strings.CutPrefix(base, whiteout)
	switch {
	case base == whiteoutOpaque && len(dirs) == 0:
		o.root = at.layer
	case base == whiteoutOpaque:
		o.cover(in, at.layer)
	case isWhiteout:
		gone := o.child(in, hidden)
		o.remove(dirs, gone, at)
		o.cover(gone, at.layer)
	case h.Typeflag == tar.TypeDir:
		if err := o.checkRemade(h.Name, dirs, self, at); err != nil {
			return err
		}
	default:
		o.remove(dirs, o.child(in, whiteout, base), at)
		if at.layer > 0 {
			o.cover(self, at.layer)
		}
	}
	if h.Typeflag == tar.TypeLink {
		if err := o.link(h, at); err != nil {
			return err
		}
		dirs, self = o.keys(h.Name) // link has used their memory
	}
	if err := o.makeDirs(h.Name, dirs, at); err != nil {
		return err
	}
	n := o.nodes[self]
	isDir := h.Typeflag == tar.TypeDir
	if n.below = n.below && n.dir && isDir; n.below {
		o.late.keep(self, position{int(n.layer) - 1, int(n.entry)}, h)
	} else {
		o.late.drop(self)
	}
	n.entry, n.layer, n.dir = uint32(at.entry), uint16(at.layer+1), isDir
	o.nodes[self] = n
	return o.charge()
}

// makeDirs notes that the directories above the name exist.
func (o *overlay) makeDirs(name string, dirs []key, at position) error {
	depth := len(dirs)
	for dir := range parents(name) {
		depth--
		n, known := o.nodes[dirs[depth]]
		if !known {
			continue
		}
		if err := o.checkRemade(dir, dirs[:depth], dirs[depth], at); err != nil {
			return err
		}
		if n.dir && !n.below {
			n.below = true
			o.nodes[dirs[depth]] = n
		}
		if !n.dir {
			// A file or link becomes a directory, of a lower layer or earlier in this one.
			if o.remove(dirs[:depth], dirs[depth], at); int(n.layer) == at.layer+1 {
				o.nodes[dirs[depth]] = node{cover: n.cover}
			}
		}
	}
	return nil
}

// link notes a hard link. Its target must be in the same layer or in the base image.
func (o *overlay) link(h *tar.Header, at position) error {
	dirs, target := o.keys(h.Linkname)
	if o.lower(dirs, target, at) {
		return Errorf("layers cannot be merged: %q is a hard link into another layer", h.Name)
	}
	if to := o.nodes[target]; int(to.layer) == at.layer+1 {
		o.links = append(o.links, hardLink{uint32(at.entry), to.entry, uint16(at.layer)})
	}
	return nil
}

// charge holds the memory that the overlay has come to need.
func (o *overlay) charge() error {
	return o.grow(int64(len(o.nodes))*nodeCost + int64(cap(o.links))*linkCost/2 + o.late.bytes)
}

// keys returns the keys of the directories that a name stands below, the outermost
// first, and its own. They last until the next call.
func (o *overlay) keys(name string) (dirs []key, self key) {
	slash := strings.LastIndexByte(name, '/')
	if slash < 0 {
		return nil, o.child(key{}, name)
	}
	var in key
	if dir := name[:slash]; dir == o.dir && len(o.path) > 0 { // most often an archive has the files of a directory together
		in = o.path[len(o.path)-1]
	} else {
		o.path = o.path[:0]
		for part := range strings.SplitSeq(dir, "/") {
			in = o.child(in, part)
			o.path = append(o.path, in)
		}
		o.dir = dir
	}
	return o.path, o.child(in, name[slash+1:])
}

// parents yields the directories that a name stands below, without the root, the
// innermost first.
func parents(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := strings.LastIndexByte(name, '/'); i > 0; i = strings.LastIndexByte(name[:i], '/') {
			if !yield(name[:i]) {
				return
			}
		}
	}
}

// checkRemade returns an *Error if a lower layer removes the directory. One
// archive cannot say "removed, then made again": either the base's content would
// come back or the new directory would be removed.
func (o *overlay) checkRemade(dir string, dirs []key, self key, at position) error {
	// Every whiteout covers its name. Without a cover its key need not be made.
	if o.nodes[self].cover == 0 {
		return nil
	}
	var in key
	if len(dirs) > 0 {
		in = dirs[len(dirs)-1]
	}
	if o.lower(dirs, o.child(in, whiteout, path.Base(dir)), at) {
		return Errorf("layers cannot be merged: %q is removed by one layer and made again by a later one", dir)
	}
	return nil
}

// cover notes that the layer hides what lower ones have below the name.
func (o *overlay) cover(name key, layer int) {
	n := o.nodes[name]
	n.cover = uint16(layer + 1)
	o.nodes[name] = n
}

// lower reports whether a layer below at has the name, not hidden by another.
func (o *overlay) lower(dirs []key, name key, at position) bool {
	n := o.nodes[name]
	return n.layer > 0 && int(n.layer) <= at.layer && !o.hidden(dirs, int(n.layer)-1)
}

// hidden reports whether a later layer hides what this layer has below the directories.
func (o *overlay) hidden(dirs []key, layer int) bool {
	if layer == o.top {
		return false
	}
	return o.root > layer || slices.ContainsFunc(dirs, func(dir key) bool { return int(o.nodes[dir].cover) > layer+1 })
}

// counts reports whether an entry is in the result, once all layers are placed. An
// *Error says that it is a hard link to an entry that is not.
func (o *overlay) counts(h *tar.Header, at position) (bool, error) {
	if !o.visible(h.Name, at) {
		return false, nil
	}
	i, ok := slices.BinarySearchFunc(o.links, at, func(l hardLink, at position) int {
		return position{int(l.layer), int(l.from)}.compare(at)
	})
	if ok && !o.visible(h.Linkname, position{at.layer, int(o.links[i].to)}) {
		return false, Errorf("layers cannot be rewritten: %q is a hard link to a file that is removed or replaced later", h.Name)
	}
	return true, nil
}

// visible reports whether the entry is what the result has at the name.
func (o *overlay) visible(name string, at position) bool {
	dirs, self := o.keys(name)
	if d, ok := o.late.dirs[self]; ok && !o.hidden(dirs, d.first.layer) {
		return d.first == at
	}
	return o.nodes[self].is(at) && !o.hidden(dirs, at.layer)
}

func (o *overlay) remove(dirs []key, name key, at position) {
	if !o.lower(dirs, name, at) {
		return
	}
	o.late.drop(name)
	if n := o.nodes[name]; n.cover == 0 {
		delete(o.nodes, name)
	} else {
		o.nodes[name] = node{cover: n.cover}
	}
}
