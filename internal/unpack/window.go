package unpack

import (
	"errors"
	"io"
	"math"

	"github.com/klauspost/compress/zstd"

	"github.com/waveproxy/waveproxy/budget"
)

// windowCost is what a zstd decoder needs beside its window, in bytes.
const windowCost = 512 << 10

// Windows passes a zstd stream on to a decoder. The memory for a frame's window is
// held before the decoder sees the end of the frame's header, and then allocates it: a few
// bytes can ask for megabytes. One goroutine uses it.
type Windows struct {
	r    io.Reader
	max  uint64 // windows above it are refused by the decoder
	held *budget.Holding

	head     []byte // of a frame or a block, as far as it was read
	skip     int64  // bytes up to the next head
	inFrame  bool
	checksum bool // follows the last block of this frame
}

// Windows returns r, a zstd stream, and has windows of up to max bytes charged while it is
// read. The decoder must refuse larger ones.
func (t *Turn) Windows(r io.Reader, max uint64) *Windows {
	return &Windows{r: r, max: max, held: budget.From(t.ctx).Holding(budget.Memory)}
}

// Read reads. Besides those of r, errors are *budget.Exceeded, and of streams that are
// not zstd.
func (w *Windows) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if refused := w.look(p[:n]); refused != nil {
		return 0, refused
	}
	return n, err
}

// look follows the frames and blocks through bytes that were read.
func (w *Windows) look(p []byte) error {
	for len(p) > 0 {
		if w.skip > 0 {
			n := min(w.skip, int64(len(p)))
			w.skip -= n
			p = p[n:]
			continue
		}
		w.head = append(w.head, p[0])
		p = p[1:]
		if w.inFrame {
			w.block()
		} else if err := w.frame(); err != nil {
			return err
		}
	}
	return nil
}

// frame reads the header of a frame, once it is whole.
func (w *Windows) frame() error {
	var h zstd.Header
	err := h.Decode(w.head)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	if err != nil {
		return err
	}
	w.head = w.head[:0]
	if h.Skippable {
		w.skip = int64(h.SkippableSize)
		return nil
	}
	w.inFrame, w.checksum = true, h.HasCheckSum
	window := h.WindowSize
	if h.SingleSegment {
		window = h.FrameContentSize
	}
	return w.hold(window)
}

// block reads the header of a block, once it is whole.
func (w *Windows) block() {
	const (
		size = 3
		rle  = 1 // one byte, repeated
	)
	if len(w.head) < size {
		return
	}
	header := int64(w.head[0]) | int64(w.head[1])<<8 | int64(w.head[2])<<16
	w.head = w.head[:0]
	if w.skip = header >> 3; header>>1&3 == rle {
		w.skip = 1
	}
	if isLast := header&1 == 1; isLast {
		w.inFrame = false
		if w.checksum {
			w.skip += 4
		}
	}
}

// hold makes sure that the window is held. The decoder keeps the largest one.
func (w *Windows) hold(window uint64) error {
	if window > min(w.max, math.MaxInt64/2) {
		return nil
	}
	more := int64(window) + windowCost - w.held.Held()
	if more <= 0 {
		return nil
	}
	return w.held.Grow(more)
}

// Release gives back what is held, once the decoder is not used any more.
func (w *Windows) Release() {
	w.held.Release()
}
