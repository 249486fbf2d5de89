package durable

import (
	"errors"
	"math"
	"os"
	"time"
)

// Windows runs the commands, which write single files, and not the server. So it needs
// no locks between processes and no directories that outlive a power failure.

// TryLock returns an error, as on file systems without locks.
func TryLock(*os.File) error { return errors.ErrUnsupported }

// Use does nothing, because nothing is collected.
func Use(*os.File, time.Time) (bool, error) { return true, nil }

// Names returns how many names a file has: one, because nothing gives it more.
func Names(os.FileInfo) int { return 1 }

// SyncDir does nothing: Windows does not open directories.
func SyncDir(string) error { return nil }

// rename gives the file f another name. It closes f, because Windows renames no open
// file.
func rename(f *os.File, path string) error {
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// statfs finds room everywhere; a write that finds none fails.
var statfs = func(string) (space, error) { return space{free: math.MaxInt64, size: math.MaxInt64}, nil }
