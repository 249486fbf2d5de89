package unpack

import (
	"errors"
	"io"

	"github.com/waveproxy/waveproxy/budget"
)

const (
	// Ratio is how many times its packed size a stream may unpack to, once it is
	// larger than Free. Layers of programs and data have 2 to 10, and files of zeros
	// among them make it 30. Only a layer of nothing but zeros has more than 200: gzip
	// reaches 1,030, and 250,000 when it is packed twice.
	Ratio = 200
	// Free is how many bytes any stream may unpack to. Small archives of zeros are
	// common, and cheap.
	Free = 64 << 20

	charged = 256 << 10 // bytes that are charged at once

	// weight is what an archive that is being unpacked keeps in memory: the buffers of
	// decompressors and copies, and windows of 32 KiB.
	weight = 256 << 10
)

// ErrRatio says that a stream unpacks to more than Ratio times its size.
var ErrRatio = errors.New("it unpacks to more than 200 times its size")

// Reader reads what a decompressor yields, within the bounds of this package. One
// goroutine uses it.
type Reader struct {
	turn   *Turn
	r      io.Reader
	packed func() int64
	n      int64 // bytes that came out
	owed   int64 // of them, those that are not charged yet
}

// Reader returns r, which unpacks, with its bounds. The turn is held while it is
// read. packed tells how many packed bytes there are, or have been read so far; of
// a stream that was packed more than once, the smallest form counts. Nil sets no ratio.
func (t *Turn) Reader(r io.Reader, packed func() int64) *Reader {
	t.weight = weight
	return &Reader{turn: t, r: r, packed: packed}
}

// Read reads. Besides those of r, errors are ErrRatio, *budget.Exceeded, and the
// context's.
func (r *Reader) Read(p []byte) (int, error) {
	if err := r.turn.Share(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(p)
	r.n += int64(n)
	r.owed += int64(n)
	if r.packed != nil && r.n > Free && r.n/Ratio > r.packed() {
		return 0, ErrRatio
	}
	if r.owed >= charged || err != nil {
		if refused := budget.From(r.turn.ctx).Spend(budget.Unpacked, r.owed); refused != nil {
			return 0, refused
		}
		r.owed = 0
	}
	return n, err
}
