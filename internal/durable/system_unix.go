//go:build !windows

package durable

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// TryLock locks f for this process (flock) until it is closed, without waiting. It
// returns ErrLocked if another open file has the lock, and another error on file
// systems without such locks.
func TryLock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}

// Use raises the modification time of an open file that has a name. ok is false if its
// name was taken away: then the file is gone. A process that takes it away holds the
// lock of TryLock meanwhile, so that either the use or the removal is seen. Where there
// are no such locks, no such process exists.
func Use(f *os.File, now time.Time) (ok bool, err error) {
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH); err == nil {
		defer func() { _ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }() // closing does it, too
	}
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if Names(info) == 0 {
		return false, nil
	}
	tv := syscall.NsecToTimeval(now.UnixNano())
	return true, syscall.Futimes(int(f.Fd()), []syscall.Timeval{tv, tv})
}

// Names returns how many names a file has.
func Names(info os.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Nlink)
	}
	return 1
}

// SyncDir makes the names in the directory durable.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// rename gives the open file f another name.
func rename(f *os.File, path string) error { return os.Rename(f.Name(), path) }

// statfs is a variable for tests.
var statfs = func(path string) (s space, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return s, fmt.Errorf("look for free space at %s: %w", path, err)
	}
	block := int64(st.Bsize)
	return space{int64(st.Bavail) * block, int64(st.Blocks) * block, int64(st.Ffree), int64(st.Files)}, nil
}
