package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	// maxVerifiedOpen bounds the blobs that Open verifies: documents and small
	// layers. Larger ones are verified when they are put again, because the first
	// reader would wait.
	maxVerifiedOpen = 4 << 20
	// maxSound is of how many blobs a process remembers that they are sound.
	maxSound = 1 << 14
)

// fileState tells whether a file has changed since it was verified. Bytes that
// change on the disk behind the file system's back show after a restart.
type fileState struct {
	info os.FileInfo
}

func (s fileState) equal(info os.FileInfo) bool {
	return s.info.Size() == info.Size() && s.info.ModTime().Equal(info.ModTime()) && os.SameFile(s.info, info)
}

// Verify implements Store.
func (d *Dir) Verify(ctx context.Context, dgst digest.Digest) error {
	if err := checkDigest(dgst); err != nil {
		return err
	}
	f, err := open(ctx, d.blobPath(dgst))
	if err == nil {
		defer f.Close()
		err = d.verify(ctx, f, dgst, math.MaxInt64)
	}
	if err != nil {
		return fmt.Errorf("verify blob %s: %w", dgst, err)
	}
	return nil
}

// verify returns ErrDamaged, or another error, and closes f if the bytes have another
// digest. A file of more than limit bytes passes. f stays at its start.
func (d *Dir) verify(ctx context.Context, f *os.File, dgst digest.Digest, limit int64) error {
	info, err := f.Stat()
	if err == nil && info.Size() > limit {
		return nil
	}
	if err == nil {
		if known, ok := d.sound.Get(dgst); ok && known.equal(info) {
			return nil
		}
		err = copyVerified(ctx, io.Discard, io.NewSectionReader(f, 0, info.Size()), dgst)
	}
	if err == nil {
		d.sound.Add(dgst, fileState{info})
		return nil
	}
	f.Close()
	if !errors.Is(err, ErrMismatch) {
		return err
	}
	if d.Log != nil {
		d.Log.Error("stored blob is damaged, it is missing until a request stores it again", "digest", dgst, "size", info.Size())
	}
	return ErrDamaged
}

// setAside gives a damaged file a second name, for people who look for the cause.
// The first name stays until the sound file takes it, so that no process can remove
// a file that another one has just written.
func setAside(path string) {
	aside := filepath.Join(filepath.Dir(path), damagedPrefix+filepath.Base(path))
	os.Remove(aside)
	if os.Link(path, aside) == nil { // without hard links, the file is only replaced
		now := time.Now()
		os.Chtimes(aside, now, now) // from here on its age counts
	}
}
