package augment

import (
	"archive/tar"
	"iter"
	"path"
	"strings"
)

// maxNames bounds the memory that the names of the entries take, in bytes: as
// much as those of several of the largest layers seen in practice.
const maxNames = 512 << 20

// overlay is the entry that counts for each name when layers are stacked.
type overlay struct {
	entries map[string]placed
	covers  map[string]int // the last layer that hides what lower ones have below a name
	links   []hardLink
	names   int // bytes they take
	top     int // layer
}

type placed struct {
	position
	dir bool
}

// hardLink is one to an entry of its own layer.
type hardLink struct {
	name     string
	from, to position
}

func newOverlay() *overlay {
	return &overlay{entries: map[string]placed{}, covers: map[string]int{}}
}

// place puts an entry over what lower layers have at its name. Within one
// archive the last entry of a name wins, as it does when unpacking.
func (o *overlay) place(h *tar.Header, at position) error {
	if o.names += len(h.Name) + 64; o.names > maxNames {
		return Errorf("layers cannot be rewritten: the names of their entries are more than %d bytes", maxNames)
	}
	o.top = at.layer
	dir, base := path.Split(h.Name)
	hidden, isWhiteout := strings.CutPrefix(base, whiteout)
	switch {
	case base == whiteoutOpaque:
		o.covers[path.Clean(dir)] = at.layer
	case isWhiteout:
		o.remove(dir+hidden, at)
		o.covers[dir+hidden] = at.layer
	case h.Typeflag == tar.TypeDir:
		if err := o.checkRemade(h.Name, at); err != nil {
			return err
		}
	default:
		o.remove(dir+whiteout+base, at)
		if at.layer > 0 {
			o.covers[h.Name] = at.layer
		}
	}
	if h.Typeflag == tar.TypeLink {
		if o.lower(h.Linkname, at) {
			return Errorf("layers cannot be merged: %q is a hard link into another layer", h.Name)
		}
		if to, ok := o.entries[h.Linkname]; ok && to.layer == at.layer {
			o.links = append(o.links, hardLink{h.Name, at, to.position})
		}
	}
	for parent := range parents(h.Name) {
		if err := o.checkRemade(parent, at); err != nil {
			return err
		}
		if !o.entries[parent].dir {
			o.remove(parent, at) // a file or link of a lower layer becomes a directory
		}
	}
	o.entries[h.Name] = placed{at, h.Typeflag == tar.TypeDir}
	return nil
}

// parents yields the directories that a name stands below, without the root.
func parents(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := strings.LastIndexByte(name, '/'); i > 0; i = strings.LastIndexByte(name[:i], '/') {
			if !yield(name[:i]) {
				return
			}
		}
	}
}

// checkRemade refuses a directory that a lower layer removes: in one archive,
// what the base has in it would come back or the new one be removed.
func (o *overlay) checkRemade(dir string, at position) error {
	// Every whiteout covers its name; without one there is no text to make.
	if _, ok := o.covers[dir]; !ok {
		return nil
	}
	if in, base := path.Split(dir); o.lower(in+whiteout+base, at) {
		return Errorf("layers cannot be merged: %q is removed by one and made again by a later one", dir)
	}
	return nil
}

// lower reports whether a lower layer than at has the name.
func (o *overlay) lower(name string, at position) bool {
	e, ok := o.entries[name]
	return ok && e.layer < at.layer && !o.hidden(name, e.layer)
}

// hidden reports whether a later layer hides what this one has at the name.
func (o *overlay) hidden(name string, layer int) bool {
	if layer == o.top {
		return false
	}
	if o.covers["."] > layer {
		return true
	}
	for parent := range parents(name) {
		if o.covers[parent] > layer {
			return true
		}
	}
	return false
}

// visible returns the entries that count.
func (o *overlay) visible() map[position]bool {
	keep := make(map[position]bool, len(o.entries))
	for name, e := range o.entries {
		if !o.hidden(name, e.layer) {
			keep[e.position] = true
		}
	}
	return keep
}

func (o *overlay) remove(name string, at position) {
	if o.lower(name, at) {
		delete(o.entries, name)
	}
}
