package demo

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// Marks of deleted files in layers, see
// https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md#whiteouts
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// unpack puts a layer's tar on top of the files in root and returns the names
// of the files and links in it. os.Root refuses names and links that lead out
// of the directory. Owners and devices are left out: they need privileges.
func unpack(root *os.Root, archive []byte) ([]string, error) {
	// Whiteouts come first, wherever they are in the archive, because they hide files
	// of the layers below.
	err := eachEntry(archive, func(name string, _ *tar.Header, _ io.Reader) error { return remove(root, name) })
	if err != nil {
		return nil, err
	}
	var files []string
	err = eachEntry(archive, func(name string, h *tar.Header, content io.Reader) error {
		if strings.HasPrefix(path.Base(name), whiteout) || name == "." {
			return nil
		}
		if h.Typeflag != tar.TypeDir {
			files = append(files, name)
		}
		return put(root, name, h, content)
	})
	return files, err
}

func eachEntry(archive []byte, do func(name string, h *tar.Header, content io.Reader) error) error {
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := do(path.Clean(h.Name), h, r); err != nil {
			return fmt.Errorf("unpack %q: %w", h.Name, err)
		}
	}
}

// remove deletes what a whiteout of this name hides. It ignores other names.
func remove(root *os.Root, name string) error {
	dir, base := path.Split(name)
	dir = path.Clean(dir)
	if base == opaque {
		entries, err := fs.ReadDir(root.FS(), dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		for _, e := range entries {
			err = errors.Join(err, root.RemoveAll(path.Join(dir, e.Name())))
		}
		return err
	}
	if hidden, ok := strings.CutPrefix(base, whiteout); ok {
		return root.RemoveAll(path.Join(dir, hidden))
	}
	return nil
}

// put makes one entry, in place of an older one of the same name.
func put(root *os.Root, name string, h *tar.Header, content io.Reader) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	mode := h.FileInfo().Mode().Perm()
	if info, err := root.Lstat(name); err == nil && (h.Typeflag != tar.TypeDir || !info.IsDir()) {
		if err := root.RemoveAll(name); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := root.MkdirAll(name, 0o700); err != nil {
			return err
		}
		return root.Chmod(name, mode|0o700) // so that it can be filled, and removed
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, content)
		return errors.Join(err, f.Chmod(mode), f.Close())
	case tar.TypeSymlink:
		return root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		return root.Link(path.Clean(h.Linkname), name)
	}
	return fmt.Errorf("type %q is not a file, directory or link", h.Typeflag)
}
