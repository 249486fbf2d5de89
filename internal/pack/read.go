package pack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/opencontainers/go-digest"
)

// ErrDamaged says that a pack is cut off, or that its table is damaged.
var ErrDamaged = errors.New("the pack is damaged")

// Pack is a pack that is read.
type Pack struct {
	from   io.ReaderAt
	record section
	parts  []digest.Digest
	at     []section // of the parts
}

// section is where something is in the file.
type section struct{ at, size int64 }

// firstRead is how much of a file is read at first: most tables, and most packs whole.
const firstRead = 8 << 10

// Read returns the pack in a file of this size. ok is false if the file is no pack. A
// damaged one is ErrDamaged; other errors are those of reading.
func Read(from io.ReaderAt, size int64) (p *Pack, ok bool, err error) {
	head := make([]byte, min(size, firstRead))
	if _, err := from.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, false, err
	}
	if len(head) < len(magic) || string(head[:len(magic)]) != magic {
		return nil, false, nil
	}
	if len(head) < headSize {
		return nil, true, ErrDamaged
	}
	length := int64(binary.LittleEndian.Uint32(head[4:]))
	if length > maxTable || headSize+length > size {
		return nil, true, ErrDamaged
	}
	table := head[headSize:]
	if length > int64(len(table)) {
		table = make([]byte, length)
		if _, err := from.ReadAt(table, headSize); err != nil {
			return nil, true, err
		}
	}
	table = table[:length]
	if crc32.Checksum(table, castagnoli) != binary.LittleEndian.Uint32(head[8:]) {
		return nil, true, ErrDamaged
	}
	p = &Pack{from: from}
	if end, ok := p.decode(table); !ok || end != size {
		return nil, true, fmt.Errorf("%w: it has %d bytes", ErrDamaged, size)
	}
	return p, true, nil
}

// decode reads the table and returns where the pack ends.
func (p *Pack) decode(table []byte) (end int64, ok bool) {
	end = headSize + int64(len(table))
	next := func() (section, bool) {
		if len(table) < 4 {
			return section{}, false
		}
		s := section{end, int64(binary.LittleEndian.Uint32(table))}
		table = table[4:]
		end += s.size
		return s, true
	}
	if p.record, ok = next(); !ok {
		return 0, false
	}
	for len(table) > 0 {
		n := int(table[0])
		if len(table) < 1+n {
			return 0, false
		}
		d := digest.Digest(table[1 : 1+n])
		table = table[1+n:]
		s, ok := next()
		if !ok {
			return 0, false
		}
		p.parts, p.at = append(p.parts, d), append(p.at, s)
	}
	return end, true
}

// Record returns the record.
func (p *Pack) Record() ([]byte, error) {
	data := make([]byte, p.record.size)
	_, err := p.from.ReadAt(data, p.record.at)
	if errors.Is(err, io.EOF) && p.record.size == 0 {
		err = nil
	}
	return data, err
}

// Parts returns the digests of the parts. It must not be changed.
func (p *Pack) Parts() []digest.Digest { return p.parts }

// Part returns the bytes of a part, which may be damaged. ok is false if the pack does
// not have it.
func (p *Pack) Part(d digest.Digest) (data []byte, ok bool, err error) {
	for i, have := range p.parts {
		if have == d {
			data = make([]byte, p.at[i].size)
			_, err = p.from.ReadAt(data, p.at[i].at)
			if errors.Is(err, io.EOF) && len(data) == 0 {
				err = nil
			}
			return data, true, err
		}
	}
	return nil, false, nil
}
