package augment

import (
	"archive/tar"
	"iter"
	"path"
	"strings"
)

// maxNames bounds the memory for the names of all entries, in bytes. The names of
// several of the largest layers seen in practice fit.
const maxNames = 512 << 20

// overlay knows, for each name, which entry counts when layers are stacked.
type overlay struct {
	entries map[string]placed
	covers  map[string]int // by name, the last layer that hides what lower layers have below it
	links   []hardLink
	names   int // the memory for names, in bytes
	top     int // the uppermost layer so far
}

type placed struct {
	position
	dir bool
}

// hardLink is a hard link to an entry of the same layer.
type hardLink struct {
	name     string
	from, to position
}

func newOverlay() *overlay {
	return &overlay{entries: map[string]placed{}, covers: map[string]int{}}
}

// place adds an entry, which replaces what lower layers have at its name. Within
// one archive the last entry of a name wins, as it does when unpacking.
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

// checkRemade returns an *Error if a lower layer removes the directory. One
// archive cannot say "removed, then made again": either the base's content would
// come back or the new directory would be removed.
func (o *overlay) checkRemade(dir string, at position) error {
	// Every whiteout covers its name. Without a cover its name need not be built.
	if _, ok := o.covers[dir]; !ok {
		return nil
	}
	if in, base := path.Split(dir); o.lower(in+whiteout+base, at) {
		return Errorf("layers cannot be merged: %q is removed by one layer and made again by a later one", dir)
	}
	return nil
}

// lower reports whether a layer below at has the name, not hidden by another.
func (o *overlay) lower(name string, at position) bool {
	e, ok := o.entries[name]
	return ok && e.layer < at.layer && !o.hidden(name, e.layer)
}

// hidden reports whether a later layer hides what this layer has at the name.
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

// visible returns the positions of the entries that count.
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
