package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/internal/durable"
	"github.com/waveproxy/waveproxy/internal/pack"
)

// Stage is a Store for blobs that may turn out not to be wanted. It keeps a few small
// ones in memory, which is charged to the request, because most requests have nothing
// else and a file would cost more than the rest of the request. All others are one after
// the other in one temporary file, so that they cost no memory, and one descriptor however
// many they are. Put makes nothing durable. Close must be called
// when the work has ended; Sweep removes the file of a process that was killed. It is
// safe for concurrent use.
type Stage struct {
	// Room returns an error while the disk has no room to spare; nil: it always has.
	// Set before the first use.
	Room func() error

	dir string

	writing sync.Mutex // held by the one Put that writes
	end     int64      // of the last blob

	mu    sync.Mutex
	file  *os.File // nil until there is a blob
	blobs map[digest.Digest]section
	small map[digest.Digest][]byte
	held  int // bytes of small
}

// maxHeld bounds the bytes of the blobs that a Stage has in memory.
const maxHeld = 256 << 10

// section is where a blob is in the file.
type section struct{ at, size int64 }

var _ Store = (*Stage)(nil)

// NewStage returns an empty Stage whose file, once there is one, is in dir.
func NewStage(dir string) *Stage { return &Stage{dir: dir, blobs: map[digest.Digest]section{}} }

// Open implements Store. The blob can be read until Close.
func (s *Stage) Open(ctx context.Context, d digest.Digest) (io.ReadSeekCloser, error) {
	if err := checkDigest(d); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open blob %s: %w", d, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if data, ok := s.small[d]; ok {
		return memBlob{bytes.NewReader(data)}, nil
	}
	at, ok := s.blobs[d]
	if !ok {
		return nil, fmt.Errorf("open blob %s: %w", d, ErrNotFound)
	}
	return stagedBlob{io.NewSectionReader(s.file, at.at, at.size)}, nil
}

// Verify implements Store. Put has verified what is there.
func (s *Stage) Verify(ctx context.Context, d digest.Digest) error {
	f, err := s.Open(ctx, d)
	if err != nil {
		return err
	}
	return f.Close()
}

// Put implements Store, but the blob lasts only until Close.
func (s *Stage) Put(ctx context.Context, d digest.Digest, r io.Reader) error {
	if err := checkDigest(d); err != nil {
		return err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	r, done, err := s.hold(ctx, d, r)
	if done || err != nil {
		if err != nil {
			err = fmt.Errorf("stage blob %s: %w", d, err)
		}
		return err
	}
	w, err := s.open()
	if err == nil {
		err = copyVerified(ctx, s.writer(w), r, d)
	}
	if err != nil {
		return fmt.Errorf("stage blob %s: %w", d, durable.AsFull(err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[d] = section{s.end, w.n}
	s.end += w.n
	return nil
}

// hold keeps a small blob in memory. If it does not, it returns a reader of all bytes.
func (s *Stage) hold(ctx context.Context, d digest.Digest, r io.Reader) (all io.Reader, done bool, err error) {
	var data bytes.Buffer
	_, err = io.CopyN(&data, contextReader{ctx, r}, pack.MaxPart+1)
	if err == nil {
		return io.MultiReader(&data, r), false, nil
	}
	if !errors.Is(err, io.EOF) {
		return nil, false, err
	}
	if d.Algorithm().FromBytes(data.Bytes()) != d {
		return nil, false, fmt.Errorf("%w: expected %s, found %s", ErrMismatch, d, d.Algorithm().FromBytes(data.Bytes()))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blobs == nil || s.held+data.Len() > maxHeld || budget.HoldFor(ctx, budget.Memory, int64(data.Len())) != nil {
		return &data, false, nil
	}
	if s.small == nil {
		s.small = map[digest.Digest][]byte{}
	}
	s.small[d] = bytes.Clone(data.Bytes())
	s.held += data.Len()
	return nil, true, nil
}

// Spool keeps the bytes of r under no digest and returns them. They can be read until
// Close.
func (s *Stage) Spool(ctx context.Context, r io.Reader) (io.ReadSeeker, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	w, err := s.open()
	if err == nil {
		_, err = io.Copy(s.writer(w), contextReader{ctx, r})
	}
	if err != nil {
		return nil, fmt.Errorf("spool: %w", durable.AsFull(err))
	}
	spooled := io.NewSectionReader(w.file, w.at, w.n)
	s.end += w.n
	return spooled, nil
}

// open returns a writer behind the last blob. What a failed Put wrote there is
// written over.
func (s *Stage) open() (*stageWriter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blobs == nil {
		return nil, errors.New("the stage is closed")
	}
	if s.file == nil {
		f, err := durable.CreateTemp(s.dir)
		if err != nil {
			return nil, err
		}
		s.file = f
	}
	return &stageWriter{file: s.file, at: s.end}, nil
}

// writer returns w, as long as there is room.
func (s *Stage) writer(w io.Writer) io.Writer {
	if s.Room == nil {
		return w
	}
	return durable.NewRoomWriter(w, s.Room)
}

// Close removes the blobs.
func (s *Stage) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs, s.small = nil, nil
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	if err := errors.Join(os.Remove(f.Name()), f.Close()); err != nil {
		return fmt.Errorf("remove staged blobs: %w", err)
	}
	return nil
}

type stageWriter struct {
	file  *os.File
	at, n int64
}

func (w *stageWriter) Write(p []byte) (int, error) {
	n, err := w.file.WriteAt(p, w.at+w.n)
	w.n += int64(n)
	return n, err
}

type stagedBlob struct{ *io.SectionReader }

func (stagedBlob) Close() error { return nil }
