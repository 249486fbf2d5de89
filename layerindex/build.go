package layerindex

import (
	"cmp"
	"container/heap"
	"context"
	"slices"
	"strings"

	"github.com/waveproxy/waveproxy/budget"
)

// Bounds of a layer. The largest layers seen have 300,000 files, whose names have 30
// million bytes.
const (
	maxEntries = 1_000_000
	maxNames   = 128 << 20 // bytes of names, link targets and extended attributes
	maxName    = 4095      // bytes; Linux takes no longer path
)

// While an index is made, batches of rows are sorted, and each is packed into a run.
const (
	batchRows  = 8 << 10
	batchBytes = 1 << 20 // of their names
	rowCost    = 96      // bytes of a row in a batch, beside its name
	attrCost   = 128     // bytes of attributes beside their own

	chargedBytes = 64 << 10 // that are charged at once
)

// builder makes an Index of entries that come in any order. What it keeps is charged to
// the context's budget until release. One goroutine uses it.
type builder struct {
	memory *budget.Holding
	owed   int64 // bytes that are not charged yet

	batch      []row
	batchBytes int
	runs       []run
	size       int64 // of the runs, in bytes
	order      uint32
	names      int64
	attrs      []string
	numbers    map[string]uint32 // of attrs
}

// run is rows, sorted.
type run struct {
	data []byte
	n    int
}

// newBuilder returns a builder. An error is *budget.Exceeded.
func newBuilder(ctx context.Context) (*builder, error) {
	b := &builder{memory: budget.From(ctx).Holding(budget.Memory), numbers: map[string]uint32{}}
	return b, b.hold(batchRows*rowCost + batchBytes)
}

// hold charges bytes of memory, many at once. An error is *budget.Exceeded.
func (b *builder) hold(n int64) error {
	if b.owed += n; b.owed < chargedBytes {
		return nil
	}
	err := b.memory.Grow(b.owed)
	if err == nil {
		b.owed = 0
	}
	return err
}

// release gives back what is held.
func (b *builder) release() { b.memory.Release() }

// add takes the entry of an archive at a name as the archive has it. e has everything
// but the name, the attributes and the modification time, which directories have. An error
// is an *Error, or *budget.Exceeded.
func (b *builder) add(name string, r row, a attributes) error {
	if b.order++; b.order > maxEntries {
		return errorf("has more than %d entries", maxEntries)
	}
	if len(name) > maxName+1 || len(r.target) > maxName { // a slash may follow a name
		return errorf("has a name of more than %d bytes: %.100q", maxName, name)
	}
	if hasNUL(name) || hasNUL(r.target) {
		return errorf("has a name with a NUL byte: %.100q", name)
	}
	about, kind, keep := meaning(Clean(name), r.kind)
	if !keep || about == "." && kind != Dir && kind != Opaque {
		return nil
	}
	r.name, r.kind, r.order = keyOf(about), kind, b.order
	if kind == Whiteout || kind == Opaque {
		r.target = ""
	}
	if kind == Dir {
		var err error
		if r.attr, err = b.number(a); err != nil {
			return err
		}
	}
	if b.names += int64(len(r.name) + len(r.target)); b.names > maxNames {
		return errorf("has more than %d bytes of names", maxNames)
	}
	b.batch = append(b.batch, r)
	b.batchBytes += len(r.name) + len(r.target)
	if len(b.batch) < batchRows && b.batchBytes < batchBytes {
		return nil
	}
	return b.flush()
}

// number returns the number of the attributes.
func (b *builder) number(a attributes) (uint32, error) {
	text := a.encode()
	if n, ok := b.numbers[text]; ok {
		return n, nil
	}
	if b.names += int64(len(text)); b.names > maxNames {
		return 0, errorf("has more than %d bytes of names", maxNames)
	}
	if err := b.hold(int64(len(text)) + attrCost); err != nil {
		return 0, err
	}
	n := uint32(len(b.attrs))
	b.attrs = append(b.attrs, text)
	b.numbers[text] = n
	return n, nil
}

// class orders the rows of one name: entries before markers.
func (r *row) class() int {
	switch r.kind {
	case Whiteout:
		return 1
	case Opaque:
		return 2
	}
	return 0
}

func compareRows(a, b *row) int {
	return cmp.Or(strings.Compare(a.name, b.name), cmp.Compare(a.class(), b.class()), cmp.Compare(a.order, b.order))
}

// flush packs the batch into a run.
func (b *builder) flush() error {
	if len(b.batch) == 0 {
		return nil
	}
	slices.SortFunc(b.batch, func(x, y row) int { return compareRows(&x, &y) })
	var data []byte
	previous := ""
	for i := range b.batch {
		data = appendRow(data, previous, &b.batch[i], true)
		previous = b.batch[i].name
	}
	data = slices.Clip(slices.Clone(data))
	if err := b.hold(int64(len(data))); err != nil {
		return err
	}
	b.size += int64(len(data))
	b.runs = append(b.runs, run{data, len(b.batch)})
	clear(b.batch)
	b.batch, b.batchBytes = b.batch[:0], 0
	return nil
}

// runner is a run that is being merged, with its next row.
type runner struct {
	row
	cursor
	left int
}

func (r *runner) advance() bool {
	if r.left == 0 {
		return false
	}
	r.left--
	r.cursor.next(&r.row, true)
	r.row.name = string(r.cursor.name)
	return true
}

// runners is a heap of runs, by their next rows.
type runners []*runner

func (h runners) Len() int           { return len(h) }
func (h runners) Less(i, j int) bool { return compareRows(&h[i].row, &h[j].row) < 0 }
func (h runners) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *runners) Push(x any)        { *h = append(*h, x.(*runner)) }
func (h *runners) Pop() any {
	last := len(*h) - 1
	r := (*h)[last]
	*h = (*h)[:last]
	return r
}

// finish returns the index. An error is *budget.Exceeded.
func (b *builder) finish() (*Index, error) {
	if err := b.flush(); err != nil {
		return nil, err
	}
	// The tables are made beside the runs, and then copied to their size.
	if err := b.hold(2 * b.size); err != nil {
		return nil, err
	}
	var h runners
	for _, r := range b.runs {
		next := &runner{cursor: cursor{data: r.data}, left: r.n}
		if next.advance() {
			h = append(h, next)
		}
	}
	heap.Init(&h)
	m := merger{simple: true}
	m.entries.data = make([]byte, 0, b.size)
	for len(h) > 0 {
		m.take(h[0].row)
		if h[0].advance() {
			heap.Fix(&h, 0)
		} else {
			heap.Pop(&h)
		}
	}
	m.endName()
	return &Index{entries: m.entries.finish(), marks: m.marks.finish(), attrs: slices.Clip(slices.Clone(b.attrs)), simple: m.simple}, nil
}
