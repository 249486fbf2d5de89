package rootfs

import (
	"archive/tar"
	"maps"
	"path"
	"slices"
	"strings"
)

// sketch is what the generator believes a stack of layers to be: kinds and targets by
// clean name. It only makes cases interesting; no expectation comes from it.
type sketch map[string]entry

// put adds an entry as engines unpack a layer: what is no directory is replaced where
// one is needed.
func (s sketch) put(e entry) {
	name := e.clean()
	if hidden, opaque, ok := e.hides(); ok {
		s.removeBelow(hidden)
		if !opaque {
			delete(s, hidden)
		}
		name = path.Join(path.Dir(name), "x") // its parents are made
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if old, ok := s[dir]; !ok || old.Kind != tar.TypeDir {
			s[dir] = entry{Name: dir, Kind: tar.TypeDir}
		}
	}
	if _, _, marker := e.hides(); marker || name == "." {
		return
	}
	if e.Kind != tar.TypeDir {
		s.removeBelow(name)
	}
	s[name] = e
}

func (s sketch) removeBelow(dir string) {
	maps.DeleteFunc(s, func(name string, _ entry) bool { return strings.HasPrefix(name, dir+"/") })
}

// names returns all names of the kinds, sorted; without kinds, all.
func (s sketch) names(kinds ...byte) []string {
	var list []string
	for name, e := range s {
		if len(kinds) == 0 || slices.Contains(kinds, e.Kind) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// lookup follows the links of the whole name. ok is false for a dangling link, a loop,
// or a name below a file.
func (s sketch) lookup(name string) (real string, ok bool) {
	real, ok, _ = s.follow(name)
	return real, ok
}

// follow is lookup that tells a loop: at most maxLinks links are followed.
func (s sketch) follow(name string) (real string, ok, loop bool) {
	at, todo, links := ".", strings.Split(path.Clean(name), "/"), 0
	for len(todo) > 0 {
		next := path.Join(at, todo[0])
		switch todo[0] {
		case "..":
			next = path.Dir(at)
		case "", ".":
			next = at
		}
		todo = todo[1:]
		e, known := s[next]
		switch {
		case next == ".":
			at = next
		case !known:
			return "", false, false
		case e.Kind == tar.TypeSymlink:
			if links++; links > maxLinks {
				return "", false, true
			}
			if strings.HasPrefix(e.Link, "/") {
				at = "."
			}
			todo = append(strings.Split(e.Link, "/"), todo...)
		case e.Kind != tar.TypeDir && len(todo) > 0:
			return "", false, false
		default:
			at = next
		}
	}
	return at, true, false
}

// relative returns the path from a directory to a name, as if no link were on it.
func relative(dir, to string) string {
	from, parts := strings.Split(dir, "/"), strings.Split(to, "/")
	if dir == "." {
		from = nil
	}
	for len(from) > 0 && len(parts) > 1 && from[0] == parts[0] {
		from, parts = from[1:], parts[1:]
	}
	return path.Join(slices.Concat(slices.Repeat([]string{".."}, len(from)), parts)...)
}

// within reports whether a name is below the directory.
func within[T any](names map[string]T, dir string) bool {
	for name := range names {
		if strings.HasPrefix(name, dir+"/") {
			return true
		}
	}
	return false
}
