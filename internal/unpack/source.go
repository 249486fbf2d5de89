package unpack

import (
	"context"
	"errors"
	"io"
)

// Source is the stream that an archive is read from. It counts what is read and keeps the
// first error that is not io.EOF, so that a broken connection is not reported as a broken
// archive. It fails once its context has ended, because unpacking can take minutes. One
// goroutine uses it.
type Source struct {
	ctx context.Context
	r   io.Reader
	n   int64
	err error
}

// Bytes is how many bytes were read.
func (s *Source) Bytes() int64 { return s.n }

// Err is the first error of the stream or of the context.
func (s *Source) Err() error { return s.err }

func (s *Source) Read(p []byte) (int, error) {
	if s.err == nil {
		s.err = s.ctx.Err()
	}
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.r.Read(p)
	s.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}
