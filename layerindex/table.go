package layerindex

import (
	"encoding/binary"
	"iter"
	"slices"
	"sort"
)

// blockSize is after how many names a table has a whole one, at which a search can
// begin.
const blockSize = 16

// row is an entry in a table.
type row struct {
	name   string // a key
	kind   Kind
	target string // of links, and of entries that are hard links
	attr   uint32 // of directories: the number of their attributes
	sec    int64  // of directories: their modification time, and its nanoseconds
	nsec   uint32
	order  uint32 // where it stands in its archive; kept while an index is made, only
}

// hardLink marks the rows of hard links. It is no kind, because what a hard link is
// depends on its target.
const hardLink = 0x80

// table has rows sorted by name. Each name is stored as the number of bytes that it
// shares with the previous one, and the rest.
type table struct {
	data   []byte
	blocks []uint32 // where in data each block begins
	n      int
}

// appendRow appends a row whose name follows the previous one.
func appendRow(b []byte, previous string, r *row, ordered bool) []byte {
	shared := 0
	for shared < min(len(previous), len(r.name)) && previous[shared] == r.name[shared] {
		shared++
	}
	b = binary.AppendUvarint(b, uint64(shared))
	b = appendString(b, r.name[shared:])
	if ordered {
		b = binary.AppendUvarint(b, uint64(r.order))
	}
	switch {
	case r.kind == Dir:
		b = append(b, byte(Dir))
		b = binary.AppendUvarint(b, uint64(r.attr))
		b = binary.AppendVarint(b, r.sec)
		b = binary.AppendUvarint(b, uint64(r.nsec))
	case r.kind == Link:
		b = appendString(append(b, byte(Link)), r.target)
	case r.kind == Other && r.target != "":
		b = appendString(append(b, byte(Other)|hardLink), r.target)
	default:
		b = append(b, byte(r.kind))
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// cursor reads rows. It must only be used on what appendRow wrote, or check has passed.
type cursor struct {
	data []byte
	name []byte // of the previous row
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.data)
	c.data = c.data[n:]
	return v
}

func (c *cursor) bytes() []byte {
	n := c.uvarint()
	s := c.data[:n]
	c.data = c.data[n:]
	return s
}

// next reads a row into r, but for its name, which is then in c.name.
func (c *cursor) next(r *row, ordered bool) {
	shared := c.uvarint()
	c.name = append(c.name[:shared], c.bytes()...)
	*r = row{}
	if ordered {
		r.order = uint32(c.uvarint())
	}
	kind := c.data[0]
	c.data = c.data[1:]
	r.kind = Kind(kind &^ hardLink)
	switch {
	case r.kind == Dir:
		r.attr = uint32(c.uvarint())
		sec, n := binary.Varint(c.data)
		c.data = c.data[n:]
		r.sec, r.nsec = sec, uint32(c.uvarint())
	case r.kind == Link || kind&hardLink != 0:
		r.target = string(c.bytes())
	}
}

// maker makes a table of rows that come sorted.
type maker struct {
	table
	previous string
}

func (m *maker) add(r *row) {
	previous := m.previous
	if m.n%blockSize == 0 {
		m.blocks = append(m.blocks, uint32(len(m.data)))
		previous = ""
	}
	m.data = appendRow(m.data, previous, r, false)
	m.previous = r.name
	m.n++
}

// finish returns the table. Its memory is what it needs.
func (m *maker) finish() table {
	m.data, m.blocks = slices.Clip(slices.Clone(m.data)), slices.Clip(slices.Clone(m.blocks))
	return m.table
}

// head returns the name at which a block begins.
func (t *table) head(block int) []byte {
	c := cursor{data: t.data[t.blocks[block]:]}
	c.uvarint() // shares nothing
	return c.bytes()
}

// from returns the rows whose names are not less than name, in order. The row is valid
// until the next one.
func (t *table) from(name string) iter.Seq[*row] {
	return func(yield func(*row) bool) {
		// The last block that begins before the name: two rows may have one name.
		block := max(0, sort.Search(len(t.blocks), func(i int) bool { return string(t.head(i)) >= name })-1)
		if block >= len(t.blocks) {
			return
		}
		c, r := cursor{data: t.data[t.blocks[block]:]}, row{}
		for i := block * blockSize; i < t.n; i++ {
			c.next(&r, false)
			if string(c.name) < name {
				continue
			}
			r.name = string(c.name)
			if !yield(&r) {
				return
			}
		}
	}
}
