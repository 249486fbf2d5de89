package rootfs

import (
	"archive/tar"
	"path"
)

// namesParents reports whether the layer has an entry for each directory above the name.
func (b *building) namesParents(name string) bool {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if b.own[dir] != tar.TypeDir {
			return false
		}
	}
	return true
}

// mustNameParents reports whether an entry without entries for the directories above it
// is one of the gaps.
func (g *generator) mustNameParents(b *building, name string) bool {
	if *gaps {
		return false
	}
	if b.added {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if b.opaque[dir] {
				return true
			}
		}
		_, exists, loop := g.now.follow(path.Dir(name))
		return !exists && !loop
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if g.ever[dir] {
			return true
		}
	}
	return false
}
