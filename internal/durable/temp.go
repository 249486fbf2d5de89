package durable

import (
	"errors"
	"io/fs"
	"os"
)

// ErrLocked says that another open file has a lock.
var ErrLocked = errors.New("locked by another process")

// TempPrefix begins the names of unfinished files.
const TempPrefix = ".tmp-"

// CreateTemp returns a new, empty, locked file in dir. The lock (flock) tells
// a temporary file that is being written from one that a dead process left, at
// once and exactly: the kernel drops it with the process. Judging by age
// instead would let a process that crashes and restarts fill the disk. Closing
// the file gives up the lock.
//
// On a file system without such locks the file is not locked. There, RemoveStale
// gets no lock either and leaves every file.
func CreateTemp(dir string) (*os.File, error) {
	for {
		f, err := os.CreateTemp(dir, TempPrefix+"*")
		if err != nil {
			return nil, err
		}
		// Until it was locked, another process's RemoveStale could take the file.
		if err := TryLock(f); err != ErrLocked {
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

// RemoveStale removes a temporary file unless a live process is writing it.
func RemoveStale(path string) error {
	// For writing, because NFS grants an exclusive lock for nothing less.
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if TryLock(f) != nil {
		return nil
	}
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
