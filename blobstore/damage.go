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

	"github.com/waveproxy/waveproxy/internal/unpack"
)

const (
	// maxVerifiedOpen bounds the blobs that Open verifies: documents and small
	// layers. Larger ones are verified when they are put again, because the first
	// reader would wait.
	maxVerifiedOpen = 4 << 20
	// maxSound is of how many blobs a process remembers that they are sound.
	maxSound = 1 << 14
	// verifyTimeout bounds reading one blob, which waits for its turns.
	verifyTimeout = 10 * time.Minute
)

// fileState tells whether a file has changed since it was verified. Bytes that
// change on the disk behind the file system's back show after a restart.
type fileState struct {
	info os.FileInfo
}

func (s fileState) equal(info os.FileInfo) bool {
	return s.info.Size() == info.Size() && s.info.ModTime().Equal(info.ModTime()) && os.SameFile(s.info, info)
}

// Verify implements Store. Concurrent calls share the reading of a large blob, which
// takes turns with the unpacking of archives: an error may be *budget.Exceeded.
func (d *Dir) Verify(ctx context.Context, dgst digest.Digest) error {
	if err := checkDigest(dgst); err != nil {
		return err
	}
	f, err := open(ctx, d.blobPath(dgst))
	if err == nil {
		defer f.Close()
		err = d.verify(ctx, f, dgst, math.MaxInt64)
	}
	if err == nil {
		err = d.use(f, dgst)
	}
	if err != nil {
		return fmt.Errorf("verify blob %s: %w", dgst, err)
	}
	return nil
}

// verify returns ErrDamaged, or another error, and closes f if the bytes have another
// digest. A file of more than limit bytes passes. f stays at its start. The caller
// holds no turn of package unpack.
func (d *Dir) verify(ctx context.Context, f *os.File, dgst digest.Digest, limit int64) error {
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.Size() > limit || d.isSound(dgst, info):
		return nil
	case info.Size() > maxVerifiedOpen:
		_, err = d.verifying.Do(ctx, f.Name(), verifyTimeout, func(ctx context.Context) (struct{}, error) {
			return struct{}{}, d.verifyLarge(ctx, f.Name(), dgst)
		})
	default:
		err = d.readSound(ctx, io.NewSectionReader(f, 0, info.Size()), dgst, info)
	}
	if err != nil {
		f.Close()
	}
	return err
}

// verifyLarge verifies a file of the digest. It opens the file itself, because it may
// outlast the call that began it.
func (d *Dir) verifyLarge(ctx context.Context, path string, dgst digest.Digest) error {
	f, err := open(ctx, path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || d.isSound(dgst, info) { // a run has ended since we looked
		return err
	}
	turn := unpack.New(ctx)
	if err := turn.Enter(); err != nil {
		return err
	}
	defer turn.Leave()
	return d.readSound(ctx, turn.Inside(io.NewSectionReader(f, 0, info.Size())), dgst, info)
}

// readSound remembers a file whose bytes r has as sound if they have the digest, and
// returns ErrDamaged if they have another one.
func (d *Dir) readSound(ctx context.Context, r io.Reader, dgst digest.Digest, info os.FileInfo) error {
	err := copyVerified(ctx, io.Discard, r, dgst)
	if err == nil {
		d.sound.Add(dgst, fileState{info})
	}
	if !errors.Is(err, ErrMismatch) {
		return err
	}
	d.logDamage(dgst, info)
	return ErrDamaged
}

func (d *Dir) logDamage(dgst digest.Digest, info os.FileInfo) {
	if d.Log != nil {
		d.Log.Error("stored blob is damaged, it is missing until a request stores it again", "digest", dgst, "size", info.Size())
	}
}

// isSound reports whether the file was verified and has not changed since.
func (d *Dir) isSound(dgst digest.Digest, info os.FileInfo) bool {
	known, ok := d.sound.Get(dgst)
	return ok && known.equal(info)
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
