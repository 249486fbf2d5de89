package blobstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/internal/durable"
)

// damagedPrefix begins the names of damaged blobs that were replaced. They are kept
// for damagedAge, for people who look for the cause.
const (
	damagedPrefix = ".damaged-"
	damagedAge    = 7 * 24 * time.Hour
)

// write gives path the content that fill writes, or leaves it unchanged. When it
// returns nil the content is durable. Unless it is urgent, it is charged to the
// budget of ctx and leaves the reserve alone.
func (d *Dir) write(ctx context.Context, path string, urgent bool, fill func(io.Writer) error) error {
	if !urgent {
		if err := d.admit(ctx); err != nil {
			return err
		}
	}
	err := d.writeFile(path, func(w io.Writer) error {
		if urgent || d.Reserve == nil {
			return fill(w)
		}
		return fill(durable.NewRoomWriter(w, d.Room))
	})
	return durable.AsFull(err)
}

// admit refuses a file for which there is no room, or for which the client's budget
// is spent.
func (d *Dir) admit(ctx context.Context) error {
	if err := d.Room(); err != nil {
		return err
	}
	return budget.From(ctx).Spend(budget.Files, 1)
}

// Room returns *durable.Full if the reserve is touched.
func (d *Dir) Room() error {
	if d.Reserve == nil {
		return nil
	}
	return durable.CheckSpace(d.path, d.Reserve)
}

func (d *Dir) writeFile(path string, fill func(io.Writer) error) error {
	if err := d.makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	f, err := durable.CreateTemp(d.Staging())
	if err != nil {
		return err
	}
	defer f.Close() // not before the rename: closing gives up the lock
	if err = fill(f); err == nil && d.Now != nil {
		err = os.Chtimes(f.Name(), d.Now(), d.Now())
	}
	if err == nil {
		err = d.syncs.Replace(f, path)
	}
	if err != nil {
		os.Remove(f.Name()) // fails if the file has its name; otherwise the next Sweep does it
	}
	return err
}

// Probe writes, reads and removes a file. Its error says what is wrong with the
// storage, without paths.
func (d *Dir) Probe() error {
	if err := d.Room(); err != nil {
		return err
	}
	want := rand.Text()
	f, err := durable.CreateTemp(filepath.Join(d.path, stagingName))
	if err == nil {
		defer os.Remove(f.Name())
		defer f.Close()
		if _, err = f.WriteString(want); err == nil {
			err = f.Sync()
		}
	}
	if err = durable.AsFull(err); err != nil {
		return fmt.Errorf("the storage directory cannot be written: %w", withoutPath(err))
	}
	if found, err := os.ReadFile(f.Name()); err != nil || string(found) != want {
		return fmt.Errorf("the storage directory does not give back what was written: read %d of %d bytes: %w", len(found), len(want), withoutPath(err))
	}
	if err := os.Remove(f.Name()); err != nil {
		return fmt.Errorf("the storage directory does not let files be removed: %w", withoutPath(err))
	}
	return nil
}

// withoutPath returns the cause of a failed system call.
func withoutPath(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	if err == nil {
		return errors.New("other bytes")
	}
	return err
}

// Sweep removes temporary files that no live process is writing, and damaged
// blobs that were replaced long ago. It looks at every name in the store, which
// takes time in a large one, and may run beside everything else.
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
		if err != nil || e.IsDir() {
			return err
		}
		return sweepFile(path, e)
	})
}

func sweepFile(path string, e fs.DirEntry) error {
	if strings.HasPrefix(e.Name(), durable.TempPrefix) {
		return durable.RemoveStale(path)
	}
	if !strings.HasPrefix(e.Name(), damagedPrefix) {
		return nil
	}
	info, err := e.Info()
	if err == nil && time.Since(info.ModTime()) > damagedAge {
		err = os.Remove(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// syncEntry makes the name path durable after another write has created it.
func (d *Dir) syncEntry(path string) error {
	if err := d.makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	return d.syncs.Dir(filepath.Dir(path))
}

// maxSynced bounds the directories that a process remembers to be durable.
const maxSynced = 1 << 14

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
		if d.synced.Contains(dir) {
			return nil
		}
	}
	if err := d.syncs.Dir(parent); err != nil {
		return err
	}
	d.synced.Add(dir, struct{}{})
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
