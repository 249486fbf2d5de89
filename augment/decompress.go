package augment

import (
	"bufio"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/waveproxy/waveproxy/internal/fairqueue"
	"github.com/waveproxy/waveproxy/internal/unpack"
)

// unpackFrom returns what a layer that is stored or has passed Inspect unpacks to.
func unpackFrom(turn *unpack.Turn, r io.Reader) (io.ReadCloser, error) {
	in, _, err := decompress(turn, bufio.NewReaderSize(turn.Inside(r), magicSize), nil)
	return in, err
}

// decompress returns a reader of the uncompressed bytes, and the compression,
// which it tells from the first bytes. It holds the turn until the reader is
// closed. packed is the measure of what the stream may unpack to, nil for none.
// zstd streams with a larger window than maxWindow are refused, because the window is
// what a decoder costs in memory, and decoders wait for each other in a queue, so r must
// not wait for the network.
func decompress(turn *unpack.Turn, r *bufio.Reader, packed func() int64) (io.ReadCloser, Compression, error) {
	magic, err := r.Peek(4)
	if len(magic) == 0 {
		if err == nil || errors.Is(err, io.EOF) {
			err = Errorf("layer is empty")
		}
		return nil, "", err
	}
	a := &unpacking{Reader: r, turn: turn, closes: []func(){turn.Leave}}
	compression := None
	if unpack.IsGzip(magic) {
		compression = Gzip
	} else if unpack.IsZstd(magic) {
		compression = Zstd
		// Before the turn: what has a turn must not wait for a window, or all that
		// have windows could wait for turns.
		leave, err := turn.Queue(windows)
		if err != nil {
			return nil, "", err
		}
		a.closes = append(a.closes, leave)
	}
	if err = turn.Enter(); err == nil {
		err = a.open(compression, packed)
	}
	if err != nil {
		a.Close()
		return nil, "", err
	}
	return a, compression, nil
}

// unpacking is an archive that is being unpacked.
type unpacking struct {
	io.Reader // of the packed bytes until open
	turn      *unpack.Turn
	closes    []func()
}

func (a *unpacking) open(compression Compression, packed func() int64) error {
	r := io.Reader(bufio.NewReaderSize(a.Reader, 64<<10)) // not before the turn: many may wait
	switch compression {
	case Gzip:
		z, err := unpack.Gzip(r)
		if err != nil {
			return err
		}
		r = z
	case Zstd:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return err
		}
		a.closes = append([]func(){z.Close}, a.closes...)
		r = z
	}
	a.Reader = a.turn.Reader(r, packed)
	return nil
}

func (a *unpacking) Close() error {
	for _, f := range a.closes {
		f()
	}
	a.closes = nil
	return nil
}

// magicSize is how much of an archive is read before its turn, in bytes: bufio has no
// smaller buffers.
const magicSize = 16

// maxWindow is the largest window that zstd uses unless told otherwise, in bytes.
// windows bounds how many of them are in memory at a time, because a few bytes
// can ask for one. The holder of a window must not wait for another one, nor for
// the network.
const maxWindow = 128 << 20

var windows = fairqueue.New(fairqueue.Options{Slots: 2, PerClient: 1})

var errTooLarge = Errorf("layer unpacks to more than the limit")

// boundedReader fails with errTooLarge when r yields more than left bytes.
type boundedReader struct {
	r    io.Reader
	left int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}

// countingReader counts the bytes of r that were read.
type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *countingReader) count() int64 { return c.n }
