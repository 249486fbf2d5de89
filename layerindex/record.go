package layerindex

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/klauspost/compress/zstd"
)

// A record is recordForm, the SHA-256 of the rest, and the rest: how many bytes the tables
// have, and the tables, compressed.
const recordForm = "layerindex 2\n"

// maxIndex bounds what a record unpacks to: the names, and what the entries have beside
// them.
const maxIndex = maxNames + maxEntries*64

// errDamaged says that a record is not one that Encode made.
var errDamaged = errors.New("the record of a layer's index is damaged")

// Encode returns a record of the index. It has a checksum, because a record that changed
// would put files where they do not belong.
func (x *Index) Encode() []byte {
	flags := byte(0)
	if x.simple {
		flags = 1
	}
	plain := []byte{flags}
	plain = binary.AppendUvarint(plain, uint64(len(x.attrs)))
	for _, a := range x.attrs {
		plain = appendString(plain, a)
	}
	for _, t := range []*table{&x.entries, &x.marks} {
		plain = binary.AppendUvarint(plain, uint64(t.n))
		plain = binary.AppendUvarint(plain, uint64(len(t.data)))
		plain = append(plain, t.data...)
	}
	// Only wrong options fail.
	z, _ := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(1<<20))
	packed := z.EncodeAll(plain, binary.BigEndian.AppendUint64(nil, uint64(len(plain))))
	sum := sha256.Sum256(packed)
	return bytes.Join([][]byte{[]byte(recordForm), sum[:], packed}, nil)
}

// open returns the compressed tables of a record, and how many bytes they unpack to.
func open(record []byte) (packed []byte, size int64, err error) {
	const sumAt, sizeAt = len(recordForm), len(recordForm) + sha256.Size
	if len(record) < sizeAt+8 || string(record[:sumAt]) != recordForm ||
		sha256.Sum256(record[sizeAt:]) != [sha256.Size]byte(record[sumAt:sizeAt]) {
		return nil, 0, errDamaged
	}
	claimed := binary.BigEndian.Uint64(record[sizeAt:])
	if claimed > maxIndex {
		return nil, 0, errDamaged
	}
	return record[sizeAt+8:], int64(claimed), nil
}

// DecodedBytes returns the memory that Decode takes for a record. Errors are those of
// Decode.
func DecodedBytes(record []byte) (int64, error) {
	_, size, err := open(record)
	return size, err
}

// maxRecordWindow is the largest window that a decoder of records takes.
const maxRecordWindow = 8 << 20

// Decode returns the index of a record. An error says that the record was not made by
// Encode, or was damaged since.
func Decode(record []byte) (*Index, error) {
	packed, size, err := open(record)
	if err != nil {
		return nil, err
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(max(size, maxRecordWindow))), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	plain, err := z.DecodeAll(packed, make([]byte, 0, size))
	if err != nil || int64(len(plain)) != size {
		return nil, errDamaged
	}
	c := checked{data: plain}
	x := &Index{simple: c.byte() == 1}
	for n := c.uvarint(); n > 0 && !c.failed; n-- {
		a := c.bytes()
		c.attributes(a)
		x.attrs = append(x.attrs, string(a))
	}
	x.entries = c.table(len(x.attrs), false)
	x.marks = c.table(0, true)
	if c.failed || len(c.data) > 0 {
		return nil, errDamaged
	}
	return x, nil
}

// checked reads what may be anything. After failed, everything is zero.
type checked struct {
	data   []byte
	failed bool
}

func (c *checked) fail() { c.failed, c.data = true, nil }

func (c *checked) byte() byte {
	if len(c.data) == 0 {
		c.fail()
		return 0
	}
	b := c.data[0]
	c.data = c.data[1:]
	return b
}

func (c *checked) uvarint() uint64 {
	v, n := binary.Uvarint(c.data)
	if n <= 0 {
		c.fail()
		return 0
	}
	c.data = c.data[n:]
	return v
}

func (c *checked) bytes() []byte {
	n := c.uvarint()
	if n > uint64(len(c.data)) {
		c.fail()
		return nil
	}
	b := c.data[:n]
	c.data = c.data[n:]
	return b
}

// attributes checks attributes of directories.
func (c *checked) attributes(encoded []byte) {
	a := checked{data: encoded}
	a.uvarint()
	a.uvarint()
	a.uvarint()
	for len(a.data) > 0 {
		a.bytes()
		a.bytes()
	}
	if a.failed {
		c.fail()
	}
}

// table reads a table whose rows refer to that many attributes.
func (c *checked) table(attrs int, marks bool) table {
	n, data := c.uvarint(), c.bytes()
	t := table{data: data[:len(data):len(data)]}
	rows := checked{data: t.data}
	previous, name := row{}, []byte(nil)
	for !rows.failed && len(rows.data) > 0 {
		if t.n%blockSize == 0 {
			t.blocks = append(t.blocks, uint32(len(t.data)-len(rows.data)))
		}
		shared := rows.uvarint()
		if shared > uint64(len(name)) || t.n%blockSize == 0 && shared > 0 {
			rows.fail()
			break
		}
		name = append(name[:shared], rows.bytes()...)
		r := row{name: string(name)}
		rows.kind(&r, attrs, marks)
		if t.n > 0 && (previous.name > r.name || previous.name == r.name && previous.kind >= r.kind || !marks && previous.name == r.name) {
			rows.fail()
		}
		previous = r
		t.n++
	}
	if rows.failed || uint64(t.n) != n {
		c.fail()
	}
	return t
}

// kind reads what follows the name of a row.
func (c *checked) kind(r *row, attrs int, marks bool) {
	kind := c.byte()
	r.kind = Kind(kind &^ hardLink)
	switch {
	case marks && (kind == byte(Whiteout) || kind == byte(Opaque)):
	case marks:
		c.fail()
	case kind == byte(Dir):
		if c.uvarint() >= uint64(attrs) {
			c.fail()
		}
		if _, n := binary.Varint(c.data); n > 0 {
			c.data = c.data[n:]
		} else {
			c.fail()
		}
		if c.uvarint() >= 1e9 {
			c.fail()
		}
	case kind == byte(Link), kind == byte(Other)|hardLink:
		c.bytes()
	case kind != byte(Other):
		c.fail()
	}
}
