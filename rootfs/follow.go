package rootfs

import (
	"fmt"
	"strings"
)

// maxLinks is how many links a path may lead through, as on Linux.
const maxLinks = 40

// maxPlaces bounds the directories that a Placer remembers having looked at.
const maxPlaces = 4096

// LoopError says that an entry is below links that lead in a circle.
type LoopError struct{ Entry, Link string }

func (e *LoopError) Error() string {
	return fmt.Sprintf("%q cannot be added: the link %q above it leads in a circle, or through more than %d links", e.Entry, e.Link, maxLinks)
}

// place is a directory, or what must become one, as the layers up to now have it. No
// part of its name is a link.
type place struct {
	name string
	in   *place // of the root: itself
	kind Kind   // not Link
	// base is the directory of the base; nil if nothing of the base shows in it.
	base *dir
	node Node // of the base, if the base has the directory
	// min is the first added layer whose entries show in the directory. 0: those of the
	// base do, too.
	min    int
	refill bool // as in view
	done   int  // the last layer that has made sure of the directory
}

// view is what the layers up to now have at a name.
type view struct {
	kind   Kind
	target string // of a link
	node   Node   // of the base, if it counts
	bottom int    // of the base's layers
	isBase bool   // the base has it
	min    int    // as in place, of what is below the name
	refill bool   // an added layer has a file in place of the base's directory
}

// look returns what stands at the name, which is in the directory. A link is not followed.
func (p *Placer) look(in *place, name string) view {
	v := view{min: in.min}
	own, ok := p.nodes[name]
	if ok {
		v.min = max(v.min, own.cover)
		if own.layer > 0 && own.layer >= in.min {
			v.kind, v.target, v.refill = own.kind, own.target, own.kind != Dir && own.overDir
			return v
		}
	}
	if in.min == 0 && in.base != nil {
		v.node, v.bottom = p.base.child(in.base, name)
		v.kind, v.target, v.isBase = v.node.Kind, v.node.Entry.Target, v.node.Kind != Absent
	}
	return v
}

// enter returns the directory at the name, which is in another one and no link.
func (p *Placer) enter(in *place, name string, v view) *place {
	at := &place{in: in, kind: v.kind, min: v.min, refill: v.refill}
	if v.isBase && v.kind == Dir {
		at.node = v.node
		if v.min == 0 {
			at.base = p.base.open(in.base, name, v.bottom)
		}
	}
	if len(p.places) >= maxPlaces {
		p.forget()
	}
	at.name = strings.Clone(name) // without what it is a part of
	p.places[at.name] = at
	p.placesBytes += placeCost + int64(len(name))
	return at
}

// walk follows one path.
type walk struct {
	links int
	last  string // the last link
	by    string // the name by which the walk comes to what is next; "" in the text of a link
	text  bool   // the path is a text itself: of a hard link
}

// follow returns where a cleaned, relative path leads, links followed. What is absent
// or no directory is taken as a directory that is going to be made. ok is false if there
// are too many links.
func (p *Placer) follow(path string, w *walk) (at *place, ok bool) {
	if path == "." {
		return p.root, true
	}
	defer func() {
		if ok {
			p.came(at.name, path)
		}
	}()
	// What was entered under a name is no link, and nothing above it is one.
	if at, ok := p.places[path]; ok {
		return at, true
	}
	in, element := p.root, path
	if slash := strings.LastIndexByte(path, '/'); slash >= 0 {
		if in, ok = p.follow(path[:slash], w); !ok {
			return nil, false
		}
		element = path[slash+1:]
	}
	if w.by = path; w.text {
		w.by = ""
	}
	if dir, _ := split(path); in.name == dir {
		return p.step(in, path, w)
	}
	return p.step(in, join(in.name, element), w)
}

// step follows the last element of a name, which is in the directory.
func (p *Placer) step(in *place, name string, w *walk) (*place, bool) {
	if at, ok := p.places[name]; ok {
		return at, true
	}
	v := p.look(in, name)
	if v.kind != Link {
		return p.enter(in, name, v), true
	}
	if w.links++; w.links > maxLinks {
		return nil, false
	}
	w.last = name
	p.came(name, w.by)
	w.by = ""
	if strings.HasPrefix(v.target, "/") {
		in = p.root
	}
	from := in
	for element := range strings.SplitSeq(v.target, "/") {
		if element == "" || element == "." {
			continue
		}
		if in != from {
			p.came(in.name, "") // the last one is come to by what the link stands for
		}
		if element == ".." {
			in = in.in
			continue
		}
		var ok bool
		if in, ok = p.step(in, join(in.name, element), w); !ok {
			return nil, false
		}
	}
	return in, true
}

// split returns the directory of a name, "." for the root, and its last element.
func split(name string) (dir, element string) {
	slash := strings.LastIndexByte(name, '/')
	if slash < 0 {
		return ".", name
	}
	return name[:slash], name[slash+1:]
}

// resolve returns where an entry of this name lands: in which directory, and under
// which full name. An error is a *LoopError.
func (p *Placer) resolve(name string) (in *place, full string, err error) {
	dir, element := split(name)
	if dir == p.lastDir && p.lastPlace != nil {
		in = p.lastPlace
	} else {
		w := &walk{}
		var ok bool
		if in, ok = p.follow(dir, w); !ok {
			return nil, "", &LoopError{Entry: name, Link: w.last}
		}
		p.lastDir, p.lastPlace = dir, in
	}
	if in.name == dir {
		return in, name, nil
	}
	return in, join(in.name, element), nil
}

// resolveTarget is resolve for the text of a hard link.
func (p *Placer) resolveTarget(target string) (full string, err error) {
	dir, element := split(target)
	w := &walk{text: true}
	in, ok := p.follow(dir, w)
	if !ok {
		return "", &LoopError{Entry: target, Link: w.last}
	}
	full = join(in.name, element)
	p.came(full, target)
	return full, nil
}

// leads reports whether a path may lead through the name, as far as is remembered.
func (p *Placer) leads(name string) bool {
	if p.places[name] != nil {
		return true
	}
	rest, below := "", false
	if p.lastPlace != nil {
		rest, below = strings.CutPrefix(p.lastPlace.name, name)
	}
	return below && (rest == "" || rest[0] == '/')
}

// forget makes the next look at anything a fresh one.
func (p *Placer) forget() {
	clear(p.places)
	p.placesBytes = 0
	p.lastPlace = nil
}
