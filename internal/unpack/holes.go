package unpack

import (
	"errors"
	"io"

	"github.com/waveproxy/waveproxy/budget"
)

// ErrHoles says that sparse files have more bytes of holes than may be read.
var ErrHoles = errors.New("its sparse files have larger holes than may be filled")

// holes reads the files of an archive. One goroutine uses it.
type holes struct {
	turn  *Turn
	r     io.Reader
	below func() int64
	left  *int64 // bytes of holes that may be read; nil: any number
	owed  int64  // bytes of holes that are not charged yet
}

// Files returns r, which yields the files of an archive. Sparse files have holes, whose
// bytes come out of no decompressor: a few bytes of the archive say how many there are. So
// they are charged here, the others have their turns meanwhile, and reading ends with
// the context. below tells how many bytes of the archive have been read. *left, if left is
// not nil, goes down by the bytes of holes, and below zero the error is ErrHoles. Other
// errors are *budget.Exceeded, the context's, and those of r.
func (t *Turn) Files(r io.Reader, below func() int64, left *int64) io.Reader {
	return &holes{turn: t, r: r, below: below, left: left}
}

func (h *holes) Read(p []byte) (int, error) {
	at := h.below()
	n, err := h.r.Read(p)
	if filled := int64(n) - (h.below() - at); filled > 0 {
		if refused := h.take(filled); refused != nil {
			return 0, refused
		}
	}
	return n, err
}

// take accounts for n bytes of holes.
func (h *holes) take(n int64) error {
	if h.left != nil {
		if *h.left -= n; *h.left < 0 {
			return ErrHoles
		}
	}
	if err := h.turn.ctx.Err(); err != nil {
		return err
	}
	if err := h.turn.Share(); err != nil {
		return err
	}
	if h.owed += n; h.owed < charged {
		return nil
	}
	n, h.owed = h.owed, 0
	return budget.From(h.turn.ctx).Spend(budget.Unpacked, n)
}
