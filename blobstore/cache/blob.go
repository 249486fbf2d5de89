package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/internal/byterange"
)

// Blob reads one blob, stored or still growing. Reads of a growing blob wait for
// bytes, until the context given to Cache.Open ends. A Blob is for one goroutine
// at a time. Other readers of the same blob do not influence it.
type Blob struct {
	ctx   context.Context
	desc  ocispec.Descriptor
	fetch Fetch

	offset  int64
	file    *os.File      // at the offset; nil when the reader goes on by itself
	content *content      // of file
	fill    *fill         // that writes file; nil if the blob was stored
	leave   func()        // the file, and the fill
	body    io.ReadCloser // from fetch, at the offset, when file is nil
	part    io.LimitedReader
}

var _ io.ReadSeekCloser = (*Blob)(nil)

// Stored reports whether the whole blob was stored when it was opened.
func (b *Blob) Stored() bool { return b.fill == nil }

// Read implements io.Reader. The error is io.EOF only at the end of a blob that
// was verified, or that came from the reader's own fetch function with the right
// length. It is io.ErrUnexpectedEOF if the upstream cut the blob and
// blobstore.ErrMismatch if the blob has another digest.
func (b *Blob) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	part, err := b.next(int64(len(p)))
	if err != nil {
		return 0, err
	}
	n, err := part.Read(p)
	b.offset += int64(n)
	if n > 0 || err == nil {
		return n, nil // the next Read reports an error, if there is one
	}
	if b.emptied() {
		return b.Read(p)
	}
	return 0, b.failed(err)
}

// next waits for bytes at the offset and returns a reader of the available bytes,
// n at most. The caller advances the offset by the bytes it has read. The reader
// holds the bare file, because net/http needs it for sendfile.
func (b *Blob) next(n int64) (io.Reader, error) {
	avail := b.desc.Size
	if b.fill != nil && b.file != nil {
		var err error
		avail, err = b.fill.wait(b.ctx, b.offset)
		if errors.Is(err, ErrUnavailable) {
			avail, err = b.desc.Size, b.leaveFile()
		}
		if err != nil {
			return nil, b.failed(err)
		}
	}
	if b.offset >= avail {
		return nil, io.EOF
	}
	b.part = io.LimitedReader{R: b.file, N: min(n, avail-b.offset)}
	if b.file == nil {
		if b.body == nil {
			var err error
			if b.body, err = b.fetch(b.ctx, b.offset); err != nil {
				b.body = nil
				return nil, b.failed(err)
			}
		}
		b.part.R = b.body
	}
	return &b.part, nil
}

// emptied reports whether the file has ended too early because the cache needed its
// room. The rest then comes from the upstream.
func (b *Blob) emptied() bool {
	if b.file == nil || !b.content.emptied.Load() {
		return false
	}
	b.leaveFile() // for reading only, so closing it says nothing
	return true
}

// leaveFile closes the file, so that it takes no room any more.
func (b *Blob) leaveFile() error {
	if b.file == nil {
		return nil
	}
	err := b.file.Close()
	b.file = nil
	b.leave()
	return err
}

func (b *Blob) failed(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read blob %s at %d: %w", b.desc.Digest, b.offset, err)
}

// Seek implements io.Seeker. It waits for nothing.
func (b *Blob) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += b.offset
	case io.SeekEnd:
		offset += b.desc.Size
	}
	if offset == b.offset {
		return offset, nil
	}
	if b.file != nil {
		if _, err := b.file.Seek(offset, io.SeekStart); err != nil {
			return b.offset, err
		}
	}
	b.offset = offset
	b.dropBody()
	return offset, nil
}

// Close implements io.Closer.
func (b *Blob) Close() error {
	b.dropBody()
	return b.leaveFile()
}

func (b *Blob) dropBody() {
	if b.body != nil {
		b.body.Close()
		b.body = nil
	}
}

// Serve answers GET with the blob, or the part of it that the request asks for, and
// with the headers that the caller has set, Etag among them. HEAD, and conditions that
// need no bytes, are answered, too. The bytes of the file go to the client with
// sendfile if the ResponseWriter allows it: a wrapper needs a ReadFrom, and an Unwrap
// for flushing.
//
// The errors of byterange.Answer come before anything is written. Any other error says
// that the body is shorter than its Content-Length, because the blob or the client
// failed. The caller then aborts the connection by panicking with
// http.ErrAbortHandler.
func (b *Blob) Serve(w http.ResponseWriter, r *http.Request) error {
	part, done, err := byterange.Answer(w, r, b.desc.Size, w.Header().Get("Etag"), func(http.Header) {})
	if done || err != nil {
		return err
	}
	if _, err := b.Seek(part.Offset, io.SeekStart); err != nil {
		return err
	}
	part.WriteHeader(w)
	_, err = b.copyN(w, part.Length)
	return err
}

func (b *Blob) copyN(w http.ResponseWriter, n int64) (copied int64, err error) {
	flush := http.NewResponseController(w).Flush
	for copied < n {
		if b.fill != nil && b.file != nil {
			flush() // before waiting; some writers cannot
		}
		part, err := b.next(n - copied)
		if err != nil {
			return copied, err
		}
		m, err := io.Copy(w, part)
		copied += m
		b.offset += m
		if err == nil && m == 0 && b.emptied() {
			continue
		}
		if err == nil && m == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return copied, fmt.Errorf("send blob %s at %d: %w", b.desc.Digest, b.offset, err)
		}
	}
	return copied, nil
}
