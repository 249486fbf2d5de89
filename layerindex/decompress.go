package layerindex

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/waveproxy/waveproxy/internal/unpack"
)

const (
	// maxWindow is the largest window that zstd uses up to level 20, in bytes. A decoder
	// holds it while the network is waited for.
	maxWindow = 32 << 20
	// bzip2Cost is what a decoder of bzip2 needs, in bytes.
	bzip2Cost = 5 << 20
)

// unpacking is an archive that is being unpacked.
type unpacking struct {
	io.Reader
	closes []func()
}

func (u *unpacking) Close() {
	for _, f := range u.closes {
		f()
	}
	u.closes = nil
}

// stagedBytes is how much of a layer is read before there is a zstd decoder. No window is
// held while a registry is silent before it.
const stagedBytes = 256 << 10

// decompress returns a reader of the uncompressed bytes, whose compression it tells from
// the first ones. The turn is held until it is closed.
func decompress(turn *unpack.Turn, in *bufio.Reader) (*unpacking, error) {
	magic, err := in.Peek(10)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	magic = bytes.Clone(magic) // further reading overwrites it
	u := &unpacking{closes: []func(){turn.Leave}}
	if unpack.IsZstd(magic) {
		release, err := turn.Hold(stagedBytes)
		if err != nil {
			return nil, err
		}
		u.closes = append(u.closes, release)
		in = bufio.NewReaderSize(in, stagedBytes)
		_, _ = in.Peek(stagedBytes) // an error comes again when the bytes before it are read
	}
	if err := turn.Enter(); err != nil {
		u.Close()
		return nil, err
	}
	out, err := u.open(turn, in, magic)
	if err != nil {
		u.Close()
		return nil, err
	}
	u.Reader = turn.Reader(out, nil)
	return u, nil
}

func (u *unpacking) open(turn *unpack.Turn, in *bufio.Reader, magic []byte) (io.Reader, error) {
	switch {
	case unpack.IsGzip(magic):
		return unpack.Gzip(in)
	case unpack.IsZstd(magic):
		windows := turn.Windows(in, maxWindow)
		u.closes = append([]func(){windows.Release}, u.closes...)
		z, err := zstd.NewReader(windows, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, err
		}
		u.closes = append([]func(){z.Close}, u.closes...)
		return z, nil
	case isBzip2(magic):
		release, err := turn.Hold(bzip2Cost)
		if err != nil {
			return nil, err
		}
		u.closes = append([]func(){release}, u.closes...)
		return bzip2.NewReader(in), nil
	}
	return in, nil
}

// isBzip2 reports whether a stream begins like one of bzip2. The first letters alone may be
// the name of a file.
func isBzip2(magic []byte) bool {
	return len(magic) >= 10 && bytes.HasPrefix(magic, []byte("BZh")) &&
		(string(magic[4:10]) == "\x31\x41\x59\x26\x53\x59" || string(magic[4:10]) == "\x17\x72\x45\x38\x50\x90")
}
