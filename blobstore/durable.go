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

	"github.com/waveproxy/waveproxy/internal/durable"
)

// tempPrefix begins the names of unfinished files. No blob's or record's name
// begins with a dot.
const tempPrefix = ".tmp-"

// write gives path the content that fill writes, or leaves it unchanged. When it
// returns nil the content is durable.
func (d *Dir) write(path string, fill func(io.Writer) error) error {
	if err := d.makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	f, err := createTemp(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer f.Close() // not before the rename: closing gives up the lock
	if err = fill(f); err == nil {
		err = durable.Replace(f, path)
	}
	if err != nil {
		os.Remove(f.Name()) // fails if the file has its name; otherwise the next Sweep does it
	}
	return err
}

// createTemp returns a new, empty, locked file in dir. The lock (flock) tells
// a temporary file that is being written from one that a dead process left, at
// once and exactly: the kernel drops it with the process. Judging by age
// instead would let a process that crashes and restarts fill the disk.
//
// On a file system without such locks the file is not locked. There, sweep gets
// no lock either and leaves every file.
func createTemp(dir string) (*os.File, error) {
	for {
		f, err := os.CreateTemp(dir, tempPrefix+"*")
		if err != nil {
			return nil, err
		}
		// Until it was locked, another process's sweep could take the file.
		if err := lock(f); !errors.Is(err, syscall.EWOULDBLOCK) {
			if _, err = os.Lstat(f.Name()); err == nil {
				return f, nil
			}
			if !errors.Is(err, fs.ErrNotExist) {
				f.Close()
				return nil, err
			}
		}
		f.Close()
	}
}

// lock fails with EWOULDBLOCK if another open file has the lock.
func lock(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

// Sweep removes temporary files that no live process is writing. It looks at
// every name in the store, which takes time in a large one, and may run beside
// everything else.
func (d *Dir) Sweep(ctx context.Context) error {
	for _, name := range tops {
		if err := sweep(ctx, filepath.Join(d.path, name)); err != nil {
			return fmt.Errorf("sweep store: %w", err)
		}
	}
	return nil
}

func sweep(ctx context.Context, top string) error {
	return filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || e.IsDir() || !strings.HasPrefix(e.Name(), tempPrefix) {
			return err
		}
		// For writing, because NFS grants an exclusive lock for nothing less.
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer f.Close()
		if lock(f) != nil {
			return nil
		}
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// syncEntry makes the name path durable after another write has created it.
func (d *Dir) syncEntry(path string) error {
	if err := d.makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// makeDir makes dir, which is below d.path, exist durably. A directory that
// exists is synced too: another process may have made it a moment ago.
func (d *Dir) makeDir(dir string) error {
	if dir == d.path {
		return nil
	}
	parent := filepath.Dir(dir)
	if err := d.makeDir(parent); err != nil {
		return err
	}
	err := os.Mkdir(dir, 0o700)
	if err != nil {
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		if _, ok := d.synced.Load(dir); ok {
			return nil
		}
	}
	if err := durable.SyncDir(parent); err != nil {
		return err
	}
	d.synced.Store(dir, nil)
	return nil
}

// makeRoot makes the directory path and all missing directories above it. Only
// the parents of new directories are synced, because others may be unreadable.
func makeRoot(path string) error {
	err := os.Mkdir(path, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeRoot(filepath.Dir(path)); err != nil {
			return err
		}
		err = os.Mkdir(path, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}
