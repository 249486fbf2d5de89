// Package durable gives finished files their names so that they hold after a
// crash or a power failure: the bytes reach the disk before the name does, and
// the name before the call returns.
//
// The package must never decide where files are, what is in them or when
// unfinished ones are looked for.
//
// Files: durable.go (Replace, Create), share.go (the same, shared by concurrent callers),
// temp.go (unfinished files), space.go (room on the disk), system_unix.go and
// system_windows.go (locks, directories and free space of the operating system).
package durable

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Replace gives the written file f the name path, in place of any file of that
// name. Both names are in the same file system. When it returns nil, bytes and
// name are durable. After an error f may have either name. On Windows f is closed then.
func Replace(f *os.File, path string) error {
	if err := f.Sync(); err != nil {
		return err
	}
	if err := rename(f, path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// Create is Replace, except that a file that has the name already keeps it, and
// that f keeps its own name too. The caller reads path to learn which file won.
//
// On a file system that refuses hard links, and from another one, the bytes are
// copied. There, a reader
// may find the file empty for a moment, and a crash may leave it so.
func Create(f *os.File, path string) error {
	if err := f.Sync(); err != nil {
		return err
	}
	// Link fails if the name is taken; rename would replace the file.
	err := link(f.Name(), path)
	if refusesLinks(err) {
		err = copyTo(f, path)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return SyncDir(filepath.Dir(path)) // the process that was first may not have done it yet
}

// link is a variable for tests.
var link = os.Link

// refusesLinks reports whether the error is how SMB, FAT and some FUSE file systems
// refuse hard links.
func refusesLinks(err error) bool {
	for _, refusal := range []error{syscall.EPERM, syscall.ENOTSUP, syscall.EOPNOTSUPP, syscall.ENOSYS, syscall.EMLINK, syscall.EXDEV} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

// copyTo writes the bytes of f to a new file. A file that has the name already is
// fs.ErrExist.
func copyTo(f *os.File, path string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm())
	if err != nil {
		return err
	}
	defer to.Close()
	if _, err = io.Copy(to, io.NewSectionReader(f, 0, info.Size())); err == nil {
		err = to.Sync()
	}
	if err != nil {
		os.Remove(path)
	}
	return err
}
