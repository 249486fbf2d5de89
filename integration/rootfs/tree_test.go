package rootfs

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// mountLayers mounts the layers, the topmost first, at dir. With an upper directory
// the result can be changed.
func mountLayers(dir string, layers []string, upper, work string) error {
	options := "lowerdir=" + strings.Join(layers, ":")
	var flags uintptr = syscall.MS_RDONLY
	if upper != "" {
		options += ",upperdir=" + upper + ",workdir=" + work
		flags = 0
	}
	if err := syscall.Mount("overlay", dir, "overlay", flags, options); err != nil {
		return fmt.Errorf("mount overlay %s: %w", options, err)
	}
	return nil
}

// tree describes the files below a root by path, the root itself left out.
type tree map[string]string

// readTree reads everything in which two root file systems must be equal.
func readTree(root string) (tree, error) {
	t := tree{}
	return t, t.read(root, "")
}

func (t tree) read(root, dir string) error {
	children, err := os.ReadDir(filepath.Join(root, dir))
	if err != nil {
		return err
	}
	for _, c := range children {
		name := filepath.Join(dir, c.Name())
		if name == tools {
			continue
		}
		text, isDir, err := describe(filepath.Join(root, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // a whiteout in a directory that only one layer has is listed, but is no file
		}
		if err != nil {
			return err
		}
		t[name] = text
		if isDir {
			if err := t.read(root, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// describe returns type, mode, owner, target, content and extended attributes of a
// file.
func describe(path string) (text string, isDir bool, err error) {
	var stat syscall.Stat_t
	if err := syscall.Lstat(path, &stat); err != nil {
		return "", false, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	text = fmt.Sprintf("%04o %d:%d", stat.Mode&0o7777, stat.Uid, stat.Gid)
	switch stat.Mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		text, isDir = "dir  "+text, true
	case syscall.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			return "", false, err
		}
		return fmt.Sprintf("link %d:%d -> %s", stat.Uid, stat.Gid, target), false, nil // a link's mode means nothing
	case syscall.S_IFREG:
		content, err := os.ReadFile(path)
		if err != nil {
			return "", false, err
		}
		text = fmt.Sprintf("file %s %q", text, content)
	default:
		text = fmt.Sprintf("type %#o %s, device %#x", stat.Mode&syscall.S_IFMT, text, stat.Rdev)
	}
	xattrs, err := readXattrs(path)
	for _, k := range slices.Sorted(maps.Keys(xattrs)) {
		text += fmt.Sprintf(" %s=%q", k, xattrs[k])
	}
	return text, isDir, err
}

// readXattrs reads the attributes of a file that is not a link.
func readXattrs(path string) (map[string]string, error) {
	buffer := make([]byte, 4096)
	n, err := syscall.Listxattr(path, buffer)
	if err != nil || n == 0 {
		return nil, err
	}
	xattrs := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buffer[:n]), "\x00"), "\x00") {
		value := make([]byte, 4096)
		n, err := syscall.Getxattr(path, name, value)
		if err != nil {
			return nil, err
		}
		xattrs[name] = string(value[:n])
	}
	return xattrs, nil
}

// forgetInherited drops mode and owner of the directories that are not in the base and
// below one with the set-group-ID bit: a new directory inherits the bit and the group
// there, unless it was made before its parent got the bit. Both are the order of an
// unpacker's system calls.
func (t tree) forgetInherited(base tree) {
	for _, name := range slices.Sorted(maps.Keys(t)) { // parents first
		parent := t[filepath.Dir(name)]
		if strings.HasPrefix(t[name], "dir ") && base[name] == "" && (strings.HasPrefix(parent, "dir  2") || parent == inherited) {
			t[name] = inherited
		}
	}
}

const inherited = "dir  as its parent"

// differences lists the paths at which the trees are not equal, except the open ones.
func differences(got, want tree, open map[string]bool) []string {
	var list []string
	names := maps.Clone(got)
	maps.Copy(names, want)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if got[name] != want[name] && !open[name] {
			list = append(list, fmt.Sprintf("%s: image has %s, tar leaves %s", name, orNothing(got[name]), orNothing(want[name])))
		}
	}
	return list
}

func orNothing(text string) string {
	if text == "" {
		return "nothing"
	}
	return text
}
