package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// tarOptions are what "unpack into the image" means. All extended attributes are
// restored, as engines do; tar by itself takes only those of the namespace user.
var tarOptions = []string{
	"-x", "--keep-directory-symlink", "--no-overwrite-dir", "-p", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-P",
	"-f", "-",
}

// tools is the directory in the oracle's root with tar and its libraries. No case
// has this name.
const tools = ".tar"

// copyTools makes a layer with GNU tar and the libraries that it is linked with.
func copyTools(dir string) error {
	program, err := exec.LookPath("tar")
	if err != nil {
		return err
	}
	version, err := exec.Command(program, "--version").Output()
	if err != nil || !bytes.Contains(version, []byte("GNU tar")) {
		return fmt.Errorf("%s is not GNU tar: %.60q, %w", program, version, err)
	}
	list, err := exec.Command("ldd", program).Output()
	if err != nil {
		return fmt.Errorf("ldd %s: %w", program, err)
	}
	to := filepath.Join(dir, tools)
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	files := map[string]string{"tar": program}
	for field := range strings.FieldsSeq(string(list)) {
		if !filepath.IsAbs(field) {
			continue
		}
		name := filepath.Base(field)
		if strings.HasPrefix(name, "ld-linux") || strings.HasPrefix(name, "ld64") {
			name = "loader"
		}
		files[name] = field
	}
	if files["loader"] == "" {
		return fmt.Errorf("ldd %s names no loader: %s", program, list)
	}
	for name, from := range files {
		data, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, name), data, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// runTar unpacks the entries in root.
func runTar(ctx context.Context, root string, entries layer) error {
	if len(entries) == 0 {
		return nil
	}
	archive, err := entries.archive()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "/"+tools+"/loader")
	cmd.Args = append([]string{"loader", "--library-path", "/" + tools, "/" + tools + "/tar"}, tarOptions...)
	cmd.SysProcAttr, cmd.Dir, cmd.Env = &syscall.SysProcAttr{Chroot: root}, "/", []string{"LC_ALL=C"}
	cmd.Stdin = bytes.NewReader(archive)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("tar: %w: %s\nof: %s", err, out, entries)
	}
	return nil
}

// errUndecided says that a case has no right result.
var errUndecided = errors.New("the added layers contradict themselves")

// applyLayers unpacks the added layers in the root file system of the base. It returns
// the directories that only whiteouts need: whether they are made is left open. An
// error is a *loopError if the layers cannot be added, or errUndecided.
func applyLayers(ctx context.Context, root string, added []layer) (open map[string]bool, err error) {
	open = map[string]bool{}
	for _, l := range added {
		var marked []string
		// Whiteouts hide only what is below the layer, so they come first.
		err := l.markers(root, func(at place, opaque bool) error {
			for _, dir := range at.missing {
				open[dir[len(root)+1:]] = true
			}
			marked = append(marked, at.path)
			return removeHidden(root, at, opaque)
		})
		if err != nil {
			return nil, err
		}
		before, err := readTree(root)
		if err != nil {
			return nil, err
		}
		if err := unpack(ctx, root, l, lower{before, marked}); err != nil {
			return nil, err
		}
	}
	return open, nil
}

// markers calls f for each whiteout with the place of what it hides, and for each
// opaque marker with the place of the marker.
func (l layer) markers(root string, f func(at place, opaque bool) error) error {
	for _, e := range l {
		name, opaque, ok := e.hides()
		if !ok {
			continue
		}
		if opaque {
			name = e.clean()
		}
		at, err := resolve(root, name)
		if err == nil {
			err = f(at, opaque)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func removeHidden(root string, at place, opaque bool) error {
	switch {
	case len(at.missing) > 0:
		return nil // there is no such directory
	case opaque && filepath.Dir(at.path) == root:
		return errUndecided // overlay file systems know no opaque root
	case opaque:
		return removeChildren(filepath.Dir(at.path))
	}
	return os.RemoveAll(at.path)
}

// makeMissing makes the directories that do not exist. A file in the place of one goes.
func (p place) makeMissing(root string, before tree) error {
	for _, dir := range p.missing {
		if text, _, err := describe(dir); err == nil && text != before[dir[len(root)+1:]] {
			return errUndecided // the layer itself has made the file
		}
		if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

func removeChildren(dir string) error {
	children, err := os.ReadDir(dir)
	for _, c := range children {
		if c.Name() != tools {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, c.Name())))
		}
	}
	return err
}

// unpack has tar unpack the layer. tar gets the layer as a whole if it can do it alone;
// otherwise it gets one entry at a time, because what must be done by hand before an
// entry depends on the entries before it.
func unpack(ctx context.Context, root string, l layer, before lower) error {
	alone, err := tarAlone(root, l)
	if err != nil {
		return err
	}
	if alone {
		return runTar(ctx, root, l)
	}
	for _, e := range l {
		if _, _, marker := e.hides(); marker {
			continue
		}
		left, err := prepare(root, e, before)
		if err != nil {
			return err
		}
		if err := runTar(ctx, root, left); err != nil {
			return err
		}
		if e.Kind == tar.TypeSymlink && e.leadsToItself(root) {
			return errUndecided
		}
	}
	return nil
}

// leadsToItself reports whether a link that leads elsewhere by its own words leads to
// itself in the file system: its author has two directories in mind that are one.
func (e entry) leadsToItself(root string) bool {
	target := path.Join("/", e.Link)
	if !strings.HasPrefix(e.Link, "/") {
		target = path.Join("/", path.Dir(e.clean()), e.Link)
	}
	if target == "/" || target[1:] == e.clean() {
		return false
	}
	_, err := resolve(root, e.clean()+"/x")
	_, loop := errors.AsType[*loopError](err)
	return loop
}

// tarAlone reports whether no entry of the layer needs anything by hand: then all of
// them resolve to the same places before tar runs as while it runs.
func tarAlone(root string, l layer) (bool, error) {
	var places []string
	for _, e := range l {
		if _, _, marker := e.hides(); marker || e.Kind == tar.TypeSymlink {
			return false, nil
		}
		at, err := resolve(root, e.clean())
		if _, loop := errors.AsType[*loopError](err); loop {
			return false, nil // an earlier entry may end the loop
		}
		if err != nil {
			return false, err
		}
		if at.byHand || replacesDirectory(at.path, e) || e.Kind == tar.TypeDir && len(e.Xattrs) > 0 {
			return false, nil
		}
		for _, other := range places {
			if at.path == other || strings.HasPrefix(other, at.path+"/") {
				return false, nil
			}
		}
		places = append(places, at.path)
	}
	return true, nil
}

func replacesDirectory(name string, e entry) bool {
	stat, err := os.Lstat(name)
	return err == nil && stat.IsDir() && e.Kind != tar.TypeDir
}

// prepare does what tar would fail to do, or would do otherwise than an image needs,
// and returns what is left for tar:
//   - the directories that a dangling link leads to are made,
//   - a file where a directory is needed becomes a directory,
//   - a directory where a file or link comes is removed with everything in it, unless
//     the layer itself has put something there,
//   - a directory that was there before the layer keeps its extended attributes, like its
//     mode; one that the layer itself has made so far gets the entry's attributes.
func prepare(root string, e entry, before lower) (layer, error) {
	at, err := resolve(root, e.clean())
	if err != nil {
		return nil, err
	}
	if at.byHand {
		if err := at.makeMissing(root, before.tree); err != nil {
			return nil, err
		}
	}
	stat, err := os.Lstat(at.path)
	if err != nil || !stat.IsDir() || at.path == root {
		if err == nil && stat.Mode()&os.ModeSymlink != 0 && e.Kind != tar.TypeDir {
			e.Name = at.path[len(root)+1:] // the link may lead to itself by the entry's name
		}
		return layer{e}, nil
	}
	if e.Kind != tar.TypeDir {
		if undone, err := before.lacks(root, at.path); undone || err != nil {
			return nil, errors.Join(err, errUndecided)
		}
		e.Name = at.path[len(root)+1:] // the links that lead here may be in the directory
		return layer{e}, os.RemoveAll(at.path)
	}
	if !strings.HasPrefix(before.tree[at.path[len(root)+1:]], "dir ") {
		return nil, errors.Join(
			os.Lchown(at.path, e.UID, e.GID), syscall.Chmod(at.path, uint32(e.Mode)), setXattrs(at.path, e.Xattrs))
	}
	e.Xattrs = nil
	return layer{e}, nil
}

// lower is what there is below a layer.
type lower struct {
	tree
	marked []string // where the layer's whiteouts and opaque markers are, on this machine
}

// lacks reports whether the layer itself has something in the directory.
func (l lower) lacks(root, dir string) (bool, error) {
	now := tree{}
	err := now.read(root, dir[len(root)+1:])
	for name := range now {
		if l.tree[name] == "" {
			return true, err
		}
	}
	inside := func(name string) bool { return strings.HasPrefix(name, dir+"/") }
	return l.tree[dir[len(root)+1:]] == "" || slices.ContainsFunc(l.marked, inside), err
}

func setXattrs(name string, xattrs map[string]string) error {
	var errs []error
	for k, v := range xattrs {
		errs = append(errs, syscall.Setxattr(name, k, []byte(v), 0))
	}
	return errors.Join(errs...)
}
