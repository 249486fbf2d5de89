package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/internal/durable"
	"github.com/waveproxy/waveproxy/internal/flight"
)

// Dir is a Store in a directory, with records. Any number of processes may
// share the directory, and any of them may be killed at any time. It is safe
// for concurrent use. It needs a Unix system, for flock and for syncing
// directories.
//
//	blobs/sha256/ab/ab12…       one file for each blob
//	records/layers/0a1b….record one for each record, with the small blobs that belong to it
//	until/2026-11-29/…          records that may go on that day, and their large blobs
//	staging/.tmp-*              being written, or left by a crash
//	format                      the version of this layout
//	….damaged-*                 beside blobs: was damaged, and replaced
type Dir struct {
	// Reserve returns how many bytes of a file system of that size stay free. While
	// fewer are, writes fail with *durable.Full. nil: none. Set before the first
	// use, like the following members.
	Reserve func(size int64) int64
	// Urgent reports whether a record may use the reserve, and is charged to no
	// budget. nil: none.
	Urgent func(record string) bool
	// Now is the clock by which files are used; nil is time.Now.
	Now func() time.Time
	// Log gets a line for each damaged blob. nil: none.
	Log *slog.Logger

	path      string
	warned    atomic.Int64                 // when unusable last logged, in Unix seconds
	upgraded  time.Time                    // zero if no server of version 1 has used the store
	synced    *lru.Cache[string, struct{}] // directories whose name in their parent this process knows to be durable
	syncs     durable.Syncs
	sound     *lru.Cache[digest.Digest, fileState]
	verifying flight.Group[struct{}] // by digest
}

var _ Packs = (*Dir)(nil)

// tops are the store's own directories; others beside them are left alone.
var tops = []string{"blobs", "records", untilName, stagingName}

const stagingName = "staging"

// NewDir returns the store in the directory path, which it creates with mode 0700
// if need be. Sweep removes the files that killed writers have left there.
func NewDir(path string) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err == nil {
		err = makeRoot(path)
	}
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	d := &Dir{path: path}
	d.sound, _ = lru.New[digest.Digest, fileState](maxSound) // only sizes below 1 fail
	d.synced, _ = lru.New[string, struct{}](maxSynced)
	if err := d.openFormat(); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	for _, name := range tops {
		top := filepath.Join(path, name)
		if err := d.makeDir(top); err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
	}
	return d, nil
}

// Staging is the directory for bytes that may become blobs. Files there are made
// with durable.CreateTemp, so that Sweep removes those of crashed writers.
func (d *Dir) Staging() string { return filepath.Join(d.path, stagingName) }

// Open implements Store. The blob is an *os.File, for sendfile. The bytes of a small
// one are verified, once while its file stays as it is.
func (d *Dir) Open(ctx context.Context, dgst digest.Digest) (io.ReadSeekCloser, error) {
	if err := checkDigest(dgst); err != nil {
		return nil, err
	}
	f, err := d.openAt(ctx, d.blobPath(dgst), dgst)
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", dgst, err)
	}
	return f, nil
}

// openAt opens a blob's file, and verifies a small one.
func (d *Dir) openAt(ctx context.Context, path string, dgst digest.Digest) (*os.File, error) {
	f, err := open(ctx, path)
	if err == nil {
		err = d.verify(ctx, f, dgst, maxVerifiedOpen)
	}
	if err == nil {
		err = d.use(f, dgst)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Put implements Store. It does not read r if the blob is stored already, and
// replaces a damaged one.
func (d *Dir) Put(ctx context.Context, dgst digest.Digest, r io.Reader) error {
	if err := checkDigest(dgst); err != nil {
		return err
	}
	if err := d.putAt(ctx, d.blobPath(dgst), dgst, r); err != nil {
		return fmt.Errorf("put blob %s: %w", dgst, err)
	}
	return nil
}

func (d *Dir) putAt(ctx context.Context, path string, dgst digest.Digest, r io.Reader) error {
	f, err := open(ctx, path)
	if err == nil {
		if err = d.verify(ctx, f, dgst, math.MaxInt64); err == nil {
			err = d.use(f, dgst)
			f.Close()
		}
		if err == nil {
			// The writer of the file may not have synced its name yet.
			return d.syncEntry(path)
		}
	}
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	if errors.Is(err, ErrDamaged) {
		setAside(path)
	}
	return d.write(ctx, path, false, func(w io.Writer) error { return copyVerified(ctx, w, r, dgst) })
}

// Record returns the named record, or an error that is ErrNotFound.
func (d *Dir) Record(ctx context.Context, name string) ([]byte, error) {
	if err := checkRecordName(name); err != nil {
		return nil, err
	}
	f, err := open(ctx, d.recordPath(name))
	if err != nil {
		return nil, fmt.Errorf("read record %s: %w", name, err)
	}
	defer f.Close()
	data, err := readRecord(f)
	if err == nil {
		err = d.use(f, "")
	}
	if err != nil {
		return nil, fmt.Errorf("read record %s: %w", name, err)
	}
	return data, nil
}

// Records returns the names of the records right below dir, and when the directory
// was last modified before they were read: the zero time if it does not exist. If it
// was at the time since, no names are read.
func (d *Dir) Records(ctx context.Context, dir string, since time.Time) (names []string, modified time.Time, err error) {
	if err := checkRecordName(dir); err != nil {
		return nil, modified, err
	}
	// Opened, because NFS asks the server only then.
	f, err := open(ctx, filepath.Join(d.path, "records", filepath.FromSlash(dir)))
	if errors.Is(err, ErrNotFound) {
		return nil, modified, nil
	}
	if err == nil {
		defer f.Close()
		names, modified, err = recordsIn(f, since)
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("list records of %s: %w", dir, err)
	}
	return names, modified, nil
}

func recordsIn(dir *os.File, since time.Time) (names []string, modified time.Time, err error) {
	info, err := dir.Stat()
	if err != nil || info.ModTime().Equal(since) {
		return nil, since, err
	}
	files, err := dir.Readdirnames(-1)
	for _, file := range files {
		if name, ok := strings.CutSuffix(file, recordSuffix); ok && !strings.HasPrefix(file, ".") {
			names = append(names, name)
		}
	}
	return names, info.ModTime(), err
}

// PutRecord stores data, at most 8 MiB, in place of any earlier record of that
// name. Readers see the old record or the new one, whole. When it returns nil
// the record is durable.
func (d *Dir) PutRecord(ctx context.Context, name string, data []byte) error {
	if err := checkRecordName(name); err != nil {
		return err
	}
	err := ctx.Err()
	if err == nil {
		err = checkRecordSize(len(data))
	}
	if err == nil {
		err = d.write(ctx, d.recordPath(name), d.Urgent != nil && d.Urgent(name), func(w io.Writer) error {
			_, err := w.Write(data)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("write record %s: %w", name, err)
	}
	return nil
}

func open(ctx context.Context, path string) (*os.File, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	return f, err
}
