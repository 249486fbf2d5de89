package layerindex

import (
	"path"
	"strings"
)

const (
	whiteoutPrefix = ".wh."
	// opaqueName hides everything that lower layers have in its directory.
	opaqueName = ".wh..wh..opq"
	// metaPrefix begins names that AUFS kept at the root for itself. Engines skip them.
	metaPrefix = ".wh..wh."
)

// Clean returns a name of an archive as engines take it: relative to the root of the
// image and without "." and ".." elements, and "." for the root itself.
func Clean(name string) string {
	if name = path.Clean("/" + name)[1:]; name == "" {
		return "."
	}
	return name
}

// meaning returns what a cleaned name of an archive is about: a whiteout hides another
// name, an opaque marker is about its directory. keep is false for names that engines
// skip.
func meaning(name string, kind Kind) (about string, as Kind, keep bool) {
	dir, base := path.Split(name)
	switch {
	case !strings.HasPrefix(base, whiteoutPrefix):
		return name, kind, true
	case base == opaqueName:
		return path.Clean(dir), Opaque, true // of "" it is "."
	case dir == "" && strings.HasPrefix(base, metaPrefix):
		return "", 0, false
	}
	switch hidden := strings.TrimPrefix(base, whiteoutPrefix); hidden {
	case "", ".", "..":
		return "", 0, false // no name can be hidden by it
	default:
		return dir + hidden, Whiteout, true
	}
}

// separator stands between the elements of a key. It is less than every byte of a name,
// so that everything below a directory follows it at once.
const separator = "\x00"

// keyOf returns how a cleaned name stands in tables; nameOf is the reverse.
func keyOf(name string) string {
	if name == "." {
		return ""
	}
	return strings.ReplaceAll(name, "/", separator)
}

func nameOf(key string) string {
	if key == "" {
		return "."
	}
	return strings.ReplaceAll(key, separator, "/")
}

// isBelow reports whether the key of a name is below that of a directory.
func isBelow(key, dir string) bool {
	return key != "" && (dir == "" || len(key) > len(dir) && key[len(dir)] == 0 && key[:len(dir)] == dir)
}

// parentOf returns the key of the directory of a name, and whether it has one: the root
// has none.
func parentOf(key string) (dir string, ok bool) {
	return key[:max(0, strings.LastIndex(key, separator))], key != ""
}
