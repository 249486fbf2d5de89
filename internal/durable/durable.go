// Package durable gives finished files their names so that they hold after a
// crash or a power failure: the bytes reach the disk before the name does, and
// the name before the call returns.
//
// The package must never decide where files are, what is in them or who removes
// an unfinished one.
//
// Files: durable.go (Replace, Create, SyncDir).
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace gives the written file f the name path, in place of any file of that
// name. Both names are in the same file system. When it returns nil, bytes and
// name are durable. After an error f may have either name.
func Replace(f *os.File, path string) error {
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// Create is Replace, except that a file that has the name already keeps it, and
// that f keeps its own name too. The caller reads path to learn which file won.
func Create(f *os.File, path string) error {
	if err := f.Sync(); err != nil {
		return err
	}
	// Link fails if the name is taken; rename would replace the file.
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return SyncDir(filepath.Dir(path)) // the process that was first may not have done it yet
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
