package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// errUndecided says that a case has no right result.
var errUndecided = errors.New("the added layers contradict themselves")

// applyLayers unpacks the added layers in the root file system of the base. It returns
// the directories that only whiteouts need: whether they are made is left open. An
// error is a *loopError if the layers cannot be added, or errUndecided.
func applyLayers(ctx context.Context, root string, added []layer) (open map[string]bool, err error) {
	open = map[string]bool{}
	for _, l := range added {
		// Whiteouts hide only what is below the layer, so they come first. All of them
		// are looked up before one removes anything.
		marks, err := l.markers(root)
		if err != nil {
			return nil, err
		}
		below := lower{}
		for _, m := range marks {
			for _, dir := range m.missing {
				open[dir[len(root)+1:]] = true
			}
			below.places = append(below.places, m.path)
			if !m.opaque {
				below.removed = append(below.removed, m.path)
			}
			if err := m.removeHidden(root); err != nil {
				return nil, err
			}
		}
		if below.tree, err = readTree(root); err != nil {
			return nil, err
		}
		if err := unpack(ctx, root, l, below); err != nil {
			return nil, err
		}
	}
	return open, nil
}

// mark is the place of what a whiteout hides, or of an opaque marker.
type mark struct {
	place
	opaque bool
}

// markers returns where the layer's whiteouts and opaque markers lead.
func (l layer) markers(root string) ([]mark, error) {
	var marks []mark
	for _, e := range l {
		name, opaque, ok := e.hides()
		if !ok {
			continue
		}
		if opaque {
			name = e.clean()
		}
		at, err := resolve(root, name)
		if err != nil {
			return nil, err
		}
		marks = append(marks, mark{at, opaque})
	}
	return marks, nil
}

func (m mark) removeHidden(root string) error {
	switch {
	case len(m.missing) > 0:
		return nil // there is no such directory
	case m.opaque && filepath.Dir(m.path) == root:
		return errUndecided // overlay file systems know no opaque root
	case m.opaque:
		return removeChildren(filepath.Dir(m.path))
	}
	return os.RemoveAll(m.path)
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
	if errors.Is(err, os.ErrNotExist) { // removed by another marker
		return nil
	}
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
		at, err := resolve(root, e.clean())
		if err != nil {
			return err
		}
		if e.Kind == tar.TypeSymlink && e.leadsToItself(root, at) || !*gaps && before.removes(at.path) {
			return errUndecided
		}
		left, err := prepare(root, e, at, before)
		if err != nil {
			return err
		}
		if lost, err := e.isLost(root); err != nil || lost {
			return errors.Join(err, errUndecided)
		}
		if err := runTar(ctx, root, left); err != nil {
			return err
		}
		before.places = append(before.places, at.path)
	}
	return nil
}

// leadsToItself reports whether a link, by the words of its archive, leads to what is its
// own place in the image: its author has two directories in mind that are one. waveproxy
// drops such a link.
func (e entry) leadsToItself(root string, own place) bool {
	target := path.Join("/", e.Link)
	if !strings.HasPrefix(e.Link, "/") {
		target = path.Join("/", path.Dir(e.clean()), e.Link)
	}
	if target = target[1:]; target == "" || target == e.clean() {
		return false
	}
	for range maxLinks {
		at, err := resolve(root, target)
		if err != nil || at.path == own.path {
			return err == nil
		}
		link, err := os.Readlink(at.path)
		if err != nil {
			return false
		}
		if !strings.HasPrefix(link, "/") {
			link = filepath.Dir(at.path)[len(root):] + "/" + link // "..", too, is followed as the name says
		}
		if target = strings.TrimLeft(path.Clean(link), "/"); target == "" || target == "." {
			return false
		}
	}
	return false
}

// tarAlone reports whether no entry of the layer needs anything by hand: then all of
// them resolve to the same places before tar runs as while it runs.
func tarAlone(root string, l layer) (bool, error) {
	var places, files []string
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
		if at.byHand || replaces(at.path, e) || e.Kind == tar.TypeDir && len(e.Xattrs) > 0 {
			return false, nil
		}
		for _, other := range places {
			if at.path == other || strings.HasPrefix(other, at.path+"/") {
				return false, nil
			}
		}
		for _, file := range files {
			if strings.HasPrefix(at.path, file+"/") {
				return false, nil
			}
		}
		places = append(places, at.path)
		if e.Kind != tar.TypeDir {
			files = append(files, at.path)
		}
	}
	return true, nil
}

// isLost reports whether the entry is a hard link to something that the entries before it
// have taken away.
func (e entry) isLost(root string) (bool, error) {
	if e.Kind != tar.TypeLink {
		return false, nil
	}
	target, err := resolve(root, path.Clean(e.Link))
	if err != nil {
		return false, err
	}
	_, lost := os.Lstat(target.path)
	return len(target.missing) > 0 || lost != nil, nil
}

// replaces reports whether the entry takes the place of a directory, or of a link: other
// entries may go through either.
func replaces(name string, e entry) bool {
	stat, err := os.Lstat(name)
	return err == nil && e.Kind != tar.TypeDir && (stat.IsDir() || stat.Mode()&os.ModeSymlink != 0)
}

// prepare does what tar would fail to do, or would do otherwise than an image needs,
// and returns what is left for tar:
//   - the directories that a dangling link leads to are made,
//   - a file where a directory is needed becomes a directory,
//   - a directory where a file or link comes is removed with everything in it, unless
//     the layer itself has put something there,
//   - a directory that was there before the layer keeps its extended attributes, like its
//     mode; one that the layer itself has made so far gets the entry's attributes.
func prepare(root string, e entry, at place, before lower) (layer, error) {
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
		if err := os.RemoveAll(at.path); err != nil || e.Kind != tar.TypeLink {
			return layer{e}, err
		}
		target, err := resolve(root, path.Clean(e.Link))
		if _, lost := os.Lstat(target.path); err != nil || lost != nil {
			return nil, errUndecided // the target was in the directory
		}
		return layer{e}, nil
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
	removed []string // what the layer's whiteouts hide
	places  []string // where the layer's entries so far are, and its markers, on this machine
}

// removes reports whether the layer hides the name, or a directory above it, by a
// whiteout: it makes again what it removes.
func (l lower) removes(name string) bool {
	return slices.ContainsFunc(l.removed, func(gone string) bool { return strings.HasPrefix(name+"/", gone+"/") })
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
	return l.tree[dir[len(root)+1:]] == "" || slices.ContainsFunc(l.places, inside), err
}

func setXattrs(name string, xattrs map[string]string) error {
	var errs []error
	for k, v := range xattrs {
		errs = append(errs, syscall.Setxattr(name, k, []byte(v), 0))
	}
	return errors.Join(errs...)
}
