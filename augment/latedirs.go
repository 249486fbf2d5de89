package augment

import "archive/tar"

// lateDirs has the directories with entries that come after something below them. In the
// result the last one stands in the place of the first one: Docker takes no name twice,
// and without an entry before what is below it, engines would make the directory
// themselves, which containerd cannot where a lower layer has a file above it.
type lateDirs struct {
	dirs  map[key]lateDir
	bytes int64
}

type lateDir struct {
	first position
	last  *tar.Header
}

// lateCost is what a directory costs in memory, in bytes, beside its texts.
const lateCost = 512

func (d lateDir) cost() int64 {
	n := int64(lateCost + len(d.last.Name) + len(d.last.Uname) + len(d.last.Gname))
	for name, value := range d.last.PAXRecords {
		n += int64(len(name)+len(value)) + nodeCost
	}
	return n
}

// keep notes the last entry of a directory, whose previous entry is given.
func (l *lateDirs) keep(dir key, previous position, last *tar.Header) {
	if d, ok := l.dirs[dir]; ok {
		previous = d.first
		l.drop(dir)
	}
	if l.dirs == nil {
		l.dirs = map[key]lateDir{}
	}
	kept := *last
	d := lateDir{previous, &kept}
	l.dirs[dir] = d
	l.bytes += d.cost()
}

// drop forgets a directory: it is gone, or has no entry that comes late.
func (l *lateDirs) drop(dir key) {
	if d, ok := l.dirs[dir]; ok {
		l.bytes -= d.cost()
		delete(l.dirs, dir)
	}
}

// header returns what is written for an entry that counts.
func (o *overlay) header(h *tar.Header, at position) *tar.Header {
	if h.Typeflag != tar.TypeDir || len(o.late.dirs) == 0 {
		return h
	}
	_, self := o.keys(h.Name)
	if d, ok := o.late.dirs[self]; ok && d.first == at {
		last := *d.last // which writing changes
		return &last
	}
	return h
}
