package unpack

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"
)

// Gzip returns a reader of the members of a gzip stream, one after the other, as Docker
// reads them with unpigz: zeros behind a member, which tapes and padded files have, are
// left out. Anything else there is an error. r must read no further than it is asked to,
// or be a *bufio.Reader.
func Gzip(r io.Reader) (io.Reader, error) {
	in, ok := r.(*bufio.Reader)
	if !ok {
		in = bufio.NewReader(r)
	}
	z, err := gzip.NewReader(in)
	if err != nil {
		return nil, err
	}
	z.Multistream(false)
	return &members{in, z}, nil
}

// members are those of a gzip stream.
type members struct {
	in *bufio.Reader
	z  *gzip.Reader
}

// stretch is how many empty members, or pieces of zeros, one Read passes over, so that
// streams of nothing else share their turn.
const stretch = 64

func (m *members) Read(p []byte) (int, error) {
	for range stretch {
		n, err := m.z.Read(p)
		if n > 0 && errors.Is(err, io.EOF) {
			err = nil // the next call meets it again
		}
		if n > 0 || !errors.Is(err, io.EOF) {
			return n, err
		}
		more, err := m.skipZeros()
		if err != nil {
			return 0, err
		}
		if more {
			continue
		}
		if err := m.z.Reset(m.in); err != nil {
			return 0, err
		}
		m.z.Multistream(false)
	}
	return 0, nil
}

// skipZeros reads a piece of zeros, and reports whether there may be more. Otherwise a
// member follows. It returns io.EOF if nothing does.
func (m *members) skipZeros() (more bool, err error) {
	for range 32 << 10 {
		c, err := m.in.ReadByte()
		if err != nil {
			return false, err
		}
		if c != 0 {
			return false, m.in.UnreadByte()
		}
	}
	return true, nil
}

// IsGzip reports whether a stream begins like one of gzip.
func IsGzip(magic []byte) bool { return bytes.HasPrefix(magic, []byte{0x1f, 0x8b}) }

// IsZstd reports whether a stream begins like a frame of zstd, or like a skippable one, which
// holds what decoders pass over: pzstd and zstd:chunked write some.
func IsZstd(magic []byte) bool {
	return bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}) ||
		len(magic) >= 4 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:4], []byte{0x2a, 0x4d, 0x18})
}
