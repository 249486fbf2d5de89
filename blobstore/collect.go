package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/waveproxy/waveproxy/internal/durable"
)

// CollectOptions say what a collection deletes.
type CollectOptions struct {
	// Retention is how long what no day ends is kept after its last use.
	Retention time.Duration
	// TokenTTL is the lifetime of the tokens that servers of version 1 have made.
	TokenTTL time.Duration
	// Rest is called after each step with how long it took, so that requests come first;
	// nil rests never. An error ends the collection; what it has not deleted, the next one
	// does.
	Rest func(ctx context.Context, worked time.Duration) error
	// DryRun counts what would be deleted.
	DryRun bool
}

// Collected is what a collection has deleted.
type Collected struct {
	Days  int   // whole days
	Files int64 // records and blobs
	Bytes int64 // of them
}

// ErrCollecting says that another process collects.
var ErrCollecting = errors.New("another process collects this store")

const (
	lockName = "collect.lock"
	goneName = ".gone-" // begins the names of files that are being collected

	// dayGrace is how long a day is kept after it has begun: clocks of servers differ.
	dayGrace = time.Hour
	// filesAtOnce are deleted in one step.
	filesAtOnce = 256
)

// keptRecords are directories of records that are kept until something replaces them:
// the copies of documents that recipes need at a start without the network.
var keptRecords = map[string]bool{"documents": true, "grants": true, "revoked": true}

// Collect deletes what was promised until a day that has come, and what was not used for
// long. Of the servers that share the store one collects at a time; the others get
// ErrCollecting. Killed at any moment, it leaves everything that is promised in place.
// It takes one look at each day and at each file that no day ends, and no memory that
// grows with them.
//
// It cannot delete what a mint or a pull is about to promise: those use days that have
// not come, and raise the modification times of other files.
func (d *Dir) Collect(ctx context.Context, o CollectOptions) (done Collected, err error) {
	lock, err := os.OpenFile(filepath.Join(d.path, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return done, fmt.Errorf("collect: %w", err)
	}
	defer lock.Close()
	if err := durable.TryLock(lock); errors.Is(err, durable.ErrLocked) {
		return done, ErrCollecting
	} else if err != nil {
		return done, fmt.Errorf("collect: the file system of %s has no locks, so nothing is deleted: %w", d.path, err)
	}
	defer func() {
		if err == nil && !o.DryRun {
			err = os.Chtimes(lock.Name(), d.now(), d.now()) // for LastCollected
		}
	}()
	c := collector{dir: d, options: o, now: d.now(), began: time.Now()}
	if err := c.days(ctx); err != nil {
		return c.done, fmt.Errorf("collect: %w", err)
	}
	// Servers of version 1 do not raise modification times.
	if end := c.olderEnd(); !end.IsZero() && c.now.Before(end) {
		return c.done, nil
	} else if !end.IsZero() {
		if err := c.older(ctx); err != nil {
			return c.done, fmt.Errorf("collect: %w", err)
		}
	}
	for _, top := range []string{"records", "blobs"} {
		if err := c.unused(ctx, filepath.Join(d.path, top), top == "records"); err != nil {
			return c.done, fmt.Errorf("collect: %w", err)
		}
	}
	return c.done, nil
}

// LastCollected returns when a collection last reached its end; the zero time if none has.
func (d *Dir) LastCollected() (time.Time, error) {
	info, err := os.Stat(filepath.Join(d.path, lockName))
	if err != nil {
		return time.Time{}, notGone(err)
	}
	return info.ModTime(), nil
}

// collector is one collection.
type collector struct {
	dir     *Dir
	options CollectOptions
	now     time.Time
	done    Collected

	began time.Time // of this step
	files int       // in this step
}

// step counts a file, and rests after some of them.
func (c *collector) step(ctx context.Context) error {
	if c.files++; c.files < filesAtOnce {
		return nil
	}
	c.files = 0
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.options.Rest != nil {
		if err := c.options.Rest(ctx, time.Since(c.began)); err != nil {
			return err
		}
	}
	c.began = time.Now()
	return nil
}

// days deletes the days that have come.
func (c *collector) days(ctx context.Context) error {
	top := filepath.Join(c.dir.path, untilName)
	entries, err := os.ReadDir(top)
	if err != nil {
		return err
	}
	for _, e := range entries {
		day, err := time.Parse(dayLayout, e.Name())
		if err != nil || c.now.Before(day.Add(dayGrace)) {
			continue
		}
		if err := c.remove(ctx, filepath.Join(top, e.Name())); err != nil {
			return err
		}
		c.done.Days++
	}
	return nil
}

// remove deletes a directory and everything in it, in steps.
func (c *collector) remove(ctx context.Context, dir string) error {
	err := inDir(dir, func(e fs.DirEntry) error {
		path := filepath.Join(dir, e.Name())
		if e.IsDir() {
			return c.remove(ctx, path)
		}
		if err := c.count(path, e); err != nil {
			return err
		}
		if !c.options.DryRun {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return c.step(ctx)
	})
	if err != nil || c.options.DryRun {
		return err
	}
	// A server whose clock is late may have written something: the next collection's.
	if err := os.Remove(dir); !errors.Is(err, syscall.ENOTEMPTY) {
		return notGone(err)
	}
	return nil
}

// count adds a file to what is done. A further name of a blob has no bytes.
func (c *collector) count(path string, e fs.DirEntry) error {
	info, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	c.done.Files++
	if durable.Names(info) == 1 {
		c.done.Bytes += info.Size()
	}
	return nil
}

// inDir calls f with the entries of a directory, a few at a time. It need not exist.
func inDir(dir string, f func(fs.DirEntry) error) error {
	open, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer open.Close()
	for {
		entries, err := open.ReadDir(filesAtOnce)
		for _, e := range entries {
			if err := f(e); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// olderEnd returns when everything has ended that servers of version 1 have promised;
// zero if there were none.
func (c *collector) olderEnd() time.Time {
	if !c.dir.Older() {
		return time.Time{}
	}
	ttl := c.options.TokenTTL
	return c.dir.upgraded.Add(max(ttl+ttl/8+time.Minute, c.options.Retention) + dayGrace)
}

// older deletes the grants and revocations of version 1.
func (c *collector) older(ctx context.Context) error {
	for _, name := range []string{"grants", "revoked"} {
		if err := c.remove(ctx, filepath.Join(c.dir.path, "records", name)); err != nil {
			return err
		}
	}
	return nil
}

// unused deletes the files below a directory that were not used in the retention.
func (c *collector) unused(ctx context.Context, dir string, top bool) error {
	return inDir(dir, func(e fs.DirEntry) error {
		path := filepath.Join(dir, e.Name())
		switch {
		case e.IsDir() && top && keptRecords[e.Name()]:
			return nil
		case e.IsDir():
			return c.unused(ctx, path, false)
		case strings.HasPrefix(e.Name(), ".") && !strings.HasPrefix(e.Name(), goneName):
			return nil // Sweep knows
		}
		if err := c.reap(path, e); err != nil {
			return err
		}
		return c.step(ctx)
	})
}

// reap deletes a file if it was not used in the retention.
func (c *collector) reap(path string, e fs.DirEntry) error {
	info, err := e.Info()
	if err == nil && strings.HasPrefix(e.Name(), goneName) {
		return c.finish(path, info)
	}
	if errors.Is(err, fs.ErrNotExist) || err == nil && !c.isOld(info) {
		return nil
	}
	if err != nil {
		return err
	}
	if c.options.DryRun {
		return c.count(path, e)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0) // for writing, because NFS locks nothing less
	if err != nil {
		return notGone(err)
	}
	defer f.Close()
	if durable.TryLock(f) != nil {
		return nil // it is in use
	}
	// Another file may have taken the name, and another use may have come, so the file is
	// looked at when it can no longer be found.
	gone := filepath.Join(filepath.Dir(path), goneName+filepath.Base(path))
	if err := os.Rename(path, gone); err != nil {
		return notGone(err)
	}
	if info, err = os.Lstat(gone); err != nil {
		return err
	}
	return c.finish(gone, info)
}

// finish deletes a file that was set aside, or gives it its name back.
func (c *collector) finish(gone string, info fs.FileInfo) error {
	if !c.isOld(info) {
		path := filepath.Join(filepath.Dir(gone), strings.TrimPrefix(filepath.Base(gone), goneName))
		if err := os.Link(gone, path); err != nil && !errors.Is(err, fs.ErrExist) {
			return os.Rename(gone, path) // a file system without hard links
		}
		return os.Remove(gone)
	}
	c.done.Files++
	if durable.Names(info) == 1 {
		c.done.Bytes += info.Size()
	}
	return notGone(os.Remove(gone))
}

func (c *collector) isOld(info fs.FileInfo) bool {
	return c.now.Sub(info.ModTime()) > c.options.Retention
}

// notGone returns the error, unless it is that the file is gone.
func notGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
