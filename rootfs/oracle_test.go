package rootfs

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// tools is the directory of tar in the oracle's file systems. No case has the name.
const tools = ".tar"

// copyTar makes a directory with GNU tar and the libraries that it needs.
func copyTar(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("the oracle is tar in a chroot, and must run as root")
	}
	program, err := exec.LookPath("tar")
	if err != nil {
		t.Fatal(err)
	}
	libraries, err := exec.Command("ldd", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, from := range append(strings.Fields(string(libraries)), program) {
		if !path.IsAbs(from) {
			continue
		}
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		name := path.Base(from)
		if strings.HasPrefix(name, "ld-") || strings.HasPrefix(name, "ld64") {
			name = "loader"
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// disk is a file system on disk that the oracle works on.
type disk struct{ root string }

func newDisk(t *testing.T, from string, base tree) disk {
	t.Helper()
	d := disk{t.TempDir()}
	if err := os.Mkdir(filepath.Join(d.root, tools), 0o755); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := os.Link(filepath.Join(from, f.Name()), filepath.Join(d.root, tools, f.Name())); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range sorted(base) {
		i, at := base[name], filepath.Join(d.root, name)
		switch i.kind {
		case tar.TypeDir:
			err = os.Mkdir(at, 0o755)
		case tar.TypeSymlink:
			err = os.Symlink(i.text, at)
		default:
			err = os.WriteFile(at, []byte(i.text), 0o644)
		}
		if err == nil {
			err = own(at, i)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func own(at string, i item) error {
	if i.kind == tar.TypeSymlink {
		return nil
	}
	return errors.Join(os.Lchown(at, i.uid, i.gid), syscall.Chmod(at, uint32(i.mode)))
}

func sorted(t tree) []string {
	var names []string
	for name := range t {
		names = append(names, name)
	}
	// A directory comes before what is in it.
	for i := range names {
		for j := range i {
			if names[i] < names[j] {
				names[i], names[j] = names[j], names[i]
			}
		}
	}
	return names
}

// list returns what is on the disk.
func (d disk) list() (tree, error) {
	t := tree{}
	err := filepath.WalkDir(d.root, func(at string, e fs.DirEntry, err error) error {
		if err != nil || at == d.root {
			return err
		}
		name := at[len(d.root)+1:]
		if name == tools {
			return fs.SkipDir
		}
		var stat syscall.Stat_t
		if err := syscall.Lstat(at, &stat); err != nil {
			return err
		}
		i := item{tar.TypeDir, int64(stat.Mode & 0o7777), int(stat.Uid), int(stat.Gid), ""}
		switch e.Type() {
		case fs.ModeDir:
		case fs.ModeSymlink:
			i = item{kind: tar.TypeSymlink}
			i.text, err = os.Readlink(at)
		default:
			var data []byte
			data, err = os.ReadFile(at)
			i.kind, i.text = tar.TypeReg, string(data)
		}
		t[name] = i
		return err
	})
	return t, err
}

var errUndefined = errors.New("an entry takes the place of what it is below, or is in the place of what is to be below it")

// replacesItsWay reports whether an entry takes the place of something on its own path.
func (d disk) replacesItsWay(e entry, at string) bool {
	for dir := path.Dir(path.Clean(e.name)); dir != "."; dir = path.Dir(dir) {
		for text := dir; ; {
			link, _, err := d.resolve(text, false)
			if err != nil {
				return true
			}
			target, err := os.Readlink(filepath.Join(d.root, link))
			if link == at || strings.HasPrefix(link, at+"/") {
				return true
			}
			if err != nil {
				break
			}
			if text = target; !path.IsAbs(target) {
				text = path.Join(path.Dir(link), target)
			}
			text = strings.TrimPrefix(path.Join("/", text), "/")
			if text == "" {
				break
			}
		}
	}
	return false
}

var errLoop = errors.New("too many links")

// resolve returns where a name leads on the disk, as in a chroot. missing are directories
// on the way that are not there.
func (d disk) resolve(name string, last bool) (at string, missing []string, err error) {
	at = "."
	todo := strings.Split(name, "/")
	for links := 0; len(todo) > 0; {
		element := todo[0]
		todo = todo[1:]
		switch element {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, element)
		text, err := os.Readlink(filepath.Join(d.root, next))
		if err == nil && (len(todo) > 0 || last) {
			if links++; links > 40 {
				return "", nil, errLoop
			}
			if strings.HasPrefix(text, "/") {
				at = "."
			}
			todo = append(strings.Split(text, "/"), todo...)
			continue
		}
		at = next
		if info, err := os.Lstat(filepath.Join(d.root, at)); len(todo) > 0 && (err != nil || !info.IsDir()) {
			missing = append(missing, at)
		}
	}
	return at, missing, nil
}

func (d disk) isDir(name string) bool {
	info, err := os.Lstat(filepath.Join(d.root, name))
	return err == nil && info.IsDir()
}

// hide does what the markers of a layer say.
func (d disk) hide(layer []entry) error {
	var gone []string
	for _, e := range layer {
		name, opaque, ok := e.hides()
		if !ok {
			continue
		}
		at, _, err := d.resolve(name, opaque)
		if err != nil {
			return err
		}
		if !opaque {
			gone = append(gone, at)
			continue
		}
		children, _ := os.ReadDir(filepath.Join(d.root, at))
		for _, c := range children {
			if c.Name() != tools {
				gone = append(gone, path.Join(at, c.Name()))
			}
		}
	}
	for _, at := range gone {
		if err := os.RemoveAll(filepath.Join(d.root, at)); err != nil && !errors.Is(err, syscall.ENOTDIR) {
			return err
		}
	}
	return nil
}

// unpack has tar unpack the layer in the chroot, entry by entry. What tar would fail to
// do is done by hand before: a link to nothing leads to a directory that is made, a
// file where a directory is needed becomes one, and a directory where something else comes goes.
func (d disk) unpack(layer []entry) error {
	if err := d.hide(layer); err != nil {
		return err
	}
	made, files := map[string]bool{}, map[string]bool{} // that the layer has made
	for _, e := range layer {
		if _, _, marker := e.hides(); marker || path.Clean(e.name) == "." {
			continue
		}
		at, missing, err := d.resolve(path.Clean(e.name), false)
		if err != nil {
			return err
		}
		if e.kind == tar.TypeSymlink && d.itself(e, at) {
			continue
		}
		for _, dir := range missing {
			if files[dir] {
				return errUndefined
			}
			_ = os.Remove(filepath.Join(d.root, dir))
			if err := os.Mkdir(filepath.Join(d.root, dir), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			made[dir] = true
		}
		if files[at] && e.kind == tar.TypeDir {
			return errUndefined
		}
		files[at] = e.kind != tar.TypeDir
		full := filepath.Join(d.root, at)
		if d.replacesItsWay(e, at) {
			return errUndefined
		}
		if e.kind != tar.TypeDir && d.isDir(at) {
			if err := os.RemoveAll(full); err != nil {
				return err
			}
		}
		if e.kind == tar.TypeDir && made[at] { // within a layer, the last entry counts
			if err := own(full, item{e.kind, e.mode, e.uid, e.gid, ""}); err != nil {
				return err
			}
			continue
		}
		if existed := d.isDir(at); e.kind == tar.TypeDir && !existed {
			if to, _, err := d.resolve(at, true); err != nil || !d.isDir(to) {
				made[at] = true
			}
		}
		if err := d.tar(e); err != nil {
			return err
		}
	}
	return nil
}

// itself reports whether a link would lead to itself because its name or target is below a
// link. Such a link is left out.
func (d disk) itself(e entry, at string) bool {
	target := path.Join("/", e.text)
	if !strings.HasPrefix(e.text, "/") {
		target = path.Join("/", path.Dir(e.name), e.text)
	}
	if target = target[1:]; target == path.Clean(e.name) || target == "" {
		return false
	}
	in, _, err := d.resolve(target, false)
	if err != nil || in == at {
		return err == nil
	}
	if _, err := os.Readlink(filepath.Join(d.root, in)); err != nil {
		return false
	}
	in, _, err = d.resolve(in, true)
	return err == nil && in == at
}

func (d disk) tar(e entry) error {
	cmd := exec.Command("/"+tools+"/loader", "--library-path", "/"+tools, "/"+tools+"/tar",
		"-x", "--keep-directory-symlink", "--no-overwrite-dir", "-p", "--numeric-owner", "-P", "-f", "-")
	cmd.SysProcAttr, cmd.Dir, cmd.Env = &syscall.SysProcAttr{Chroot: d.root}, "/", []string{"LC_ALL=C"}
	cmd.Stdin = bytes.NewReader(archiveOf([]entry{e}))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("tar of %s: %w: %s", e, err, out)
	}
	return nil
}
