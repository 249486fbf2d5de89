// Package pack is the form of a file that has a record and the small blobs that belong
// to it, so that an augmented image is one file and not six.
//
// The package must never decide where packs are kept, or who may read a part. It does
// not verify the digests of parts: readers do, as of any stored blob.
//
// Files: pack.go (parts, and how they are written), read.go (reading).
package pack

import (
	"bytes"
	"context"
	_ "crypto/sha256" // makes the algorithms known to go-digest
	_ "crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/opencontainers/go-digest"
)

const (
	// MaxPart bounds a blob that is kept in a pack, in bytes. Nearly all documents and
	// scripts are smaller. A larger blob is worth a file, which images can share.
	MaxPart = 64 << 10
	// MaxParts bounds all parts of a pack together, in bytes.
	MaxParts = 1 << 20
)

// Part is a blob that is stored with a record.
type Part struct {
	Digest digest.Digest
	Size   int64
	// Open returns the bytes, from the start. It may be called until the record is
	// stored.
	Open func(context.Context) (io.ReadCloser, error)
}

// Of returns the part with these bytes.
func Of(d digest.Digest, data []byte) Part {
	return Part{d, int64(len(data)), func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	}}
}

// Split returns the parts that a pack has, in their order and each once, and those that
// are too large for it.
func Split(parts []Part) (small, large []Part) {
	var total int64
	seen := map[digest.Digest]bool{}
	for _, p := range parts {
		if seen[p.Digest] {
			continue
		}
		seen[p.Digest] = true
		if p.Size > MaxPart || total+p.Size > MaxParts {
			large = append(large, p)
			continue
		}
		total += p.Size
		small = append(small, p)
	}
	return small, large
}

// The form of a pack, integers being little endian:
//
//	0  magic
//	4  length of the table
//	8  CRC-32C of the table
//	12 table: length of the record, then of each part the length of its digest, its
//	   digest and its size
//	…  the record, then the parts, nothing between them
const (
	magic    = "wvp1"
	headSize = 12

	maxTable = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrMismatch says that a part does not have the bytes of its digest and size.
var ErrMismatch = errors.New("the part has other bytes")

// Encode returns the pack of a record and small parts. A part with other bytes than its
// digest and size say is ErrMismatch; other errors are those of the parts.
func Encode(ctx context.Context, record []byte, parts []Part) ([]byte, error) {
	table := binary.LittleEndian.AppendUint32(nil, uint32(len(record)))
	size := int64(len(record))
	for _, p := range parts {
		if err := p.Digest.Validate(); err != nil {
			return nil, fmt.Errorf("pack %q: %w", p.Digest, err)
		}
		table = append(table, byte(len(p.Digest)))
		table = append(table, p.Digest...)
		table = binary.LittleEndian.AppendUint32(table, uint32(p.Size))
		size += p.Size
	}
	data := make([]byte, 0, headSize+len(table)+int(size))
	data = append(data, magic...)
	data = binary.LittleEndian.AppendUint32(data, uint32(len(table)))
	data = binary.LittleEndian.AppendUint32(data, crc32.Checksum(table, castagnoli))
	data = append(append(data, table...), record...)
	for _, p := range parts {
		var err error
		if data, err = appendPart(ctx, data, p); err != nil {
			return nil, fmt.Errorf("pack %s: %w", p.Digest, err)
		}
	}
	return data, nil
}

func appendPart(ctx context.Context, data []byte, p Part) ([]byte, error) {
	r, err := p.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	at := len(data)
	data = data[:at+int(p.Size)] // Encode has made room
	if _, err := io.ReadFull(r, data[at:]); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMismatch, err)
	}
	if n, _ := r.Read(make([]byte, 1)); n > 0 || p.Digest.Algorithm().FromBytes(data[at:]) != p.Digest {
		return nil, ErrMismatch
	}
	return data, nil
}
