package augment

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
)

// specialDirs have owners or modes of their own in every base image. Pack
// leaves out their directory entries. Otherwise a packed directory named tmp
// would take the sticky bit off /tmp.
var specialDirs = []string{"dev", "proc", "root", "run", "sys", "tmp", "var/tmp"}

// Pack writes the tree as a gzip-compressed layer whose files stand below
// target ("/" or "/opt/scripts"). The archive is reproducible: names sorted,
// times zero, everything owned by root, modes kept. Sockets, pipes and devices
// are refused.
func Pack(w io.Writer, tree fs.FS, target string) error {
	if !strings.HasPrefix(target, "/") || slices.Contains(strings.Split(target, "/"), "..") {
		return Errorf("target %q is not an absolute path", target)
	}
	target = strings.TrimPrefix(path.Clean(target), "/")
	z := gzip.NewWriter(w)
	out := tar.NewWriter(z)
	for i, c := range target + "/" {
		if c == '/' && i > 0 {
			if err := packDir(out, target[:i], 0o755); err != nil {
				return err
			}
		}
	}
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name == "." {
			return nil
		}
		return packEntry(out, tree, name, path.Join(target, name), d)
	})
	if err != nil {
		return fmt.Errorf("pack directory: %w", err)
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("pack directory: %w", err)
	}
	return z.Close()
}

func packDir(out *tar.Writer, name string, mode fs.FileMode) error {
	if slices.Contains(specialDirs, name) {
		return nil
	}
	return out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: tarMode(mode)})
}

func packEntry(out *tar.Writer, tree fs.FS, from, to string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	h := &tar.Header{Name: to, Mode: tarMode(info.Mode())}
	switch {
	case info.IsDir():
		return packDir(out, to, info.Mode())
	case info.Mode()&fs.ModeSymlink != 0:
		h.Typeflag, h.Mode = tar.TypeSymlink, 0o777
		if h.Linkname, err = fs.ReadLink(tree, from); err != nil {
			return err
		}
		return out.WriteHeader(h)
	case !info.Mode().IsRegular():
		return Errorf("%s is neither a file, a directory nor a symbolic link", from)
	}
	f, err := tree.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	h.Typeflag, h.Size = tar.TypeReg, info.Size()
	if err := out.WriteHeader(h); err != nil {
		return err
	}
	if _, err := io.Copy(out, f); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	return nil
}

// tarMode returns the permission bits of a Unix mode. setuid, setgid and sticky
// are among them there, but not in Go's modes.
func tarMode(m fs.FileMode) int64 {
	mode := int64(m.Perm())
	for bit, unix := range map[fs.FileMode]int64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if m&bit != 0 {
			mode |= unix
		}
	}
	return mode
}
