package layerindex

import (
	"encoding/binary"
	"iter"
	"math"
	"strings"
	"unsafe"
)

// Kind is what a layer has at a name.
type Kind uint8

// The kinds. Whiteout and Opaque are markers, which hide names of lower layers.
const (
	Dir      Kind = iota + 1
	Link          // a symbolic link, or a hard link to one in the same layer
	Other         // a regular file, another hard link, a device, a FIFO
	Whiteout      // hides the name, and everything below it
	Opaque        // hides everything below the directory
)

// Entry is what a layer says about a name.
type Entry struct {
	// Name is clean, relative and without a leading slash; "." is the root. Of a
	// Whiteout it is the hidden name ("dir/x" of dir/.wh.x), of Opaque the directory.
	Name string
	Kind Kind
	// Mode has the permissions and the setuid, setgid and sticky bits. Like the
	// following attributes, it is known of directories only.
	Mode     int64
	UID, GID int
	Xattrs   map[string]string // nil if there are none
	ModTime  int64             // in nanoseconds since 1970
	// Target is where a Link leads, as the link says it. Of an Other that is a hard link,
	// it is the clean name of the entry that it links to.
	Target string
}

// Index is what one layer does to a file system. It is immutable, and safe for concurrent
// use.
type Index struct {
	entries, marks table
	attrs          []string // encoded; the rows of directories have their numbers
	simple         bool
}

// maxChain bounds how many hard links are followed to a symbolic link.
const maxChain = 40

// Find returns the entry at a clean name; ok is false if the layer has none. Of several
// entries with one name, the last one counts. An entry that the layer replaces later on,
// itself or by a file in place of a directory above it, is not there. Markers are not
// found.
func (x *Index) Find(name string) (e Entry, ok bool) {
	r, ok := x.row(keyOf(name))
	if !ok {
		return Entry{}, false
	}
	return x.entry(r), true
}

func (x *Index) row(key string) (row, bool) {
	for r := range x.entries.from(key) {
		return *r, r.name == key
	}
	return row{}, false
}

// Hides reports whether the layer hides what lower layers have at a clean name: by a
// whiteout of the name or of a directory above it, an opaque directory above it, or an
// entry above it that is no directory. What the layer itself has there is not hidden by
// its markers, so Find comes first.
func (x *Index) Hides(name string) bool {
	key := keyOf(name)
	if x.removes(key) {
		return true
	}
	for dir, ok := parentOf(key); ok; dir, ok = parentOf(dir) {
		if x.hidesBelow(dir) {
			return true
		}
	}
	return false
}

// Removes reports whether the layer has a whiteout of a clean name. It is the part of Hides
// that directories above the name have nothing to do with.
func (x *Index) Removes(name string) bool { return x.removes(keyOf(name)) }

func (x *Index) removes(key string) bool { return x.marks.n > 0 && x.isMarked(key, Whiteout) }

// HidesBelow reports whether what the layer has at a clean name hides everything that lower
// layers have below it: a marker, or an entry that is no directory. Hides asks for each
// directory above a name; callers that go down a path ask for each one once.
func (x *Index) HidesBelow(name string) bool { return x.hidesBelow(keyOf(name)) }

func (x *Index) hidesBelow(key string) bool {
	if x.marks.n > 0 && (x.isMarked(key, Opaque) || x.isMarked(key, Whiteout)) {
		return true
	}
	r, found := x.row(key)
	return found && r.kind != Dir
}

func (x *Index) isMarked(key string, kind Kind) bool {
	for r := range x.marks.from(key) {
		if r.name != key {
			return false
		}
		if r.kind == kind {
			return true
		}
	}
	return false
}

// HasBelow reports whether the layer has an entry below a clean name. Markers do not
// count.
func (x *Index) HasBelow(name string) bool {
	key := keyOf(name)
	first := key
	if key != "" {
		first += separator
	}
	for r := range x.entries.from(first) {
		if r.name != "" {
			return isBelow(r.name, key)
		}
	}
	return false
}

// Implies reports whether engines make a directory at a clean name, if the layer has no
// entry there: because of an entry or a marker below it.
func (x *Index) Implies(name string) bool {
	if x.HasBelow(name) {
		return true
	}
	key := keyOf(name)
	if x.marks.n == 0 {
		return false
	}
	for r := range x.marks.from(key) {
		if r.name != key {
			break
		}
		if r.kind == Opaque {
			return true
		}
	}
	first := key
	if key != "" {
		first += separator
	}
	for r := range x.marks.from(first) {
		return isBelow(r.name, key)
	}
	return false
}

// All yields the markers and then the entries, both in the order of their names: each
// directory comes before everything below it, and everything below it before the
// next name.
func (x *Index) All() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for _, t := range []*table{&x.marks, &x.entries} {
			for r := range t.from("") {
				if !yield(x.entry(*r)) {
					return
				}
			}
		}
	}
}

// Simple reports whether the order of the layer's entries does not matter: each name
// has one entry, no entry is below another that is no directory, and there are no
// markers.
func (x *Index) Simple() bool { return x.simple }

// Len returns the number of entries and markers.
func (x *Index) Len() int { return x.entries.n + x.marks.n }

// Bytes returns the memory of the index.
func (x *Index) Bytes() int64 {
	n := int(unsafe.Sizeof(*x))
	for _, t := range []*table{&x.entries, &x.marks} {
		n += cap(t.data) + cap(t.blocks)*int(unsafe.Sizeof(t.blocks[0]))
	}
	for _, a := range x.attrs {
		n += len(a)
	}
	return int64(n + cap(x.attrs)*int(unsafe.Sizeof("")))
}

// entry returns a row as callers see it.
func (x *Index) entry(r row) Entry {
	e := Entry{Name: nameOf(r.name), Kind: r.kind, Target: r.target}
	switch {
	case r.kind == Dir:
		x.describe(&e, r)
	case r.kind == Other && r.target != "":
		if target, ok := x.symbolic(r); ok {
			e.Kind, e.Target = Link, target
		}
	}
	return e
}

// symbolic returns the text of the symbolic link that a hard link leads to: it is that
// link under another name.
func (x *Index) symbolic(r row) (target string, ok bool) {
	for range maxChain {
		if r, ok = x.row(keyOf(r.target)); !ok || r.target == "" {
			return "", false
		}
		if r.kind == Link {
			return r.target, true
		}
	}
	return "", false
}

// attributes are the part of a directory's attributes that many directories share.
type attributes struct {
	mode     int64
	uid, gid int
	xattrs   []string // names and values in turns, sorted by name
}

// describe adds the attributes of a directory.
func (x *Index) describe(e *Entry, r row) {
	c := cursor{data: []byte(x.attrs[r.attr])}
	e.Mode, e.UID, e.GID = int64(c.uvarint()), int(c.uvarint()), int(c.uvarint())
	for len(c.data) > 0 {
		if e.Xattrs == nil {
			e.Xattrs = map[string]string{}
		}
		name := string(c.bytes())
		e.Xattrs[name] = string(c.bytes())
	}
	e.ModTime = nanoseconds(r.sec, r.nsec)
}

// nanoseconds returns a time, or the nearest one that an int64 holds.
func nanoseconds(sec int64, nsec uint32) int64 {
	const most = math.MaxInt64/1_000_000_000 - 1
	switch {
	case sec > most:
		return math.MaxInt64
	case sec < -most:
		return math.MinInt64
	}
	return sec*1e9 + int64(nsec)
}

// encode returns the attributes as Index.attrs has them.
func (a attributes) encode() string {
	b := binary.AppendUvarint(nil, uint64(a.mode&0o7777))
	b = binary.AppendUvarint(b, uint64(a.uid))
	b = binary.AppendUvarint(b, uint64(a.gid))
	for _, s := range a.xattrs {
		b = appendString(b, s)
	}
	return string(b)
}

// hasNUL reports whether a text cannot be a name of a file.
func hasNUL(s string) bool { return strings.IndexByte(s, 0) >= 0 }
