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

// maxDepth bounds the directories that are gone through from the root, as many as names of
// added layers may have. Directories of modules in modules are 60 deep at most.
const maxDepth = 255

// DepthError says that an entry is below a link that leads below too many directories.
type DepthError struct{ Entry string }

func (e *DepthError) Error() string {
	return fmt.Sprintf("%.100q cannot be added: the links above it lead below more than %d directories", e.Entry, maxDepth)
}

// refusal is the error of a walk that came to no end.
func (p *Placer) refusal(entry string, w *walk) error {
	switch {
	case p.labor.err != nil:
		return p.labor.err
	case w.deep:
		return &DepthError{Entry: entry}
	}
	return &LoopError{Entry: entry, Link: w.last}
}

// HasFile reports whether a file stands at a cleaned, relative name, or where the links
// of the name lead. Errors are those of the function given to During.
func (p *Placer) HasFile(name string) (bool, error) {
	at, ok := p.follow(name, &walk{})
	return ok && at.kind == Other, p.labor.err
}

// place is a directory, or what must become one, as the layers up to now have it. No
// part of its name is a link.
type place struct {
	name  string
	in    *place // of the root: itself
	depth int    // how many directories it is below the root
	cost  int64  // bytes of the place and all above it
	kind  Kind   // not Link
	// base is the directory of the base; nil if nothing of the base shows in it.
	base *dir
	node Node // of the base, if the base has the directory
	// min is the first added layer whose entries show in the directory. 0: those of the
	// base do, too.
	min    int
	refill bool // as in view
	done   int  // the last layer that has made sure of the directory
	// mixedBelow is whether a layer by itself hides what is below the directory.
	mixedBelow fact
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
	if in.min == 0 && in.base != nil && p.worked(lookUps*len(in.base.layers)) {
		v.node, v.bottom = p.base.child(in.base, name)
		v.kind, v.target, v.isBase = v.node.Kind, v.node.Entry.Target, v.node.Kind != Absent
	}
	return v
}

// enter returns the directory at the name, which is in another one and no link.
func (p *Placer) enter(in *place, name string, v view) *place {
	at := &place{in: in, depth: in.depth + 1, kind: v.kind, min: v.min, refill: v.refill}
	if v.isBase && v.kind == Dir {
		at.node = v.node
		if v.min == 0 && p.worked(lookUps*len(in.base.layers)) {
			at.base = p.base.open(in.base, name, v.bottom)
		}
	}
	if len(p.places) >= maxPlaces {
		p.forget()
		p.placesBytes = in.cost // which stay
	}
	at.name = strings.Clone(name) // without what it is a part of
	p.places[at.name] = at
	cost := placeCost + int64(len(name))
	for key, value := range at.node.Entry.Xattrs {
		cost += xattrCost + int64(len(key)+len(value))
	}
	at.cost = in.cost + cost
	p.placesBytes += cost
	return at
}

// mixed reports whether a layer of the base by itself has something at the directory's name,
// or something other than a directory above it. containerd gives a directory that a layer
// does not name the attributes of what it finds there, layer by layer, links followed and
// whiteouts taken for files, or it refuses the layer.
func (p *Placer) mixed(at *place) bool {
	return p.isMixedBelow(at.in) || p.worked(lookUps*len(p.base.layers)) && p.base.mixed(at.name)
}

// isMixedBelow finds out place.mixedBelow.
func (p *Placer) isMixedBelow(at *place) bool {
	if at.mixedBelow == unknown {
		at.mixedBelow = known(p.isMixedBelow(at.in) || p.worked(lookUps*len(p.base.layers)) && p.base.hidesBelow(at.name))
	}
	return at.mixedBelow == yes
}

// fact is what is not found out before it is needed.
type fact uint8

const (
	unknown fact = iota
	no
	yes
)

func known(is bool) fact {
	if is {
		return yes
	}
	return no
}

// walk follows one path.
type walk struct {
	links int
	deep  bool   // it led to more than maxDepth directories
	last  string // the last link
	by    string // the name by which the walk comes to what is next; "" in the text of a link
	text  bool   // the path is a text itself: of a hard link
}

// follow returns where a cleaned, relative path leads, links followed. What is absent
// or no directory is taken as a directory that is going to be made. ok is false if there
// are too many links or directories, or the work has ended; refusal tells which.
func (p *Placer) follow(path string, w *walk) (at *place, ok bool) {
	if path == "." {
		return p.root, true
	}
	if !p.worked(1) {
		return nil, false
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
	if !p.worked(1) {
		return nil, false
	}
	v := p.look(in, name)
	if v.kind != Link {
		if in.depth >= maxDepth {
			w.deep = true
			return nil, false
		}
		return p.enter(in, name, v), p.labor.err == nil
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
// which full name. Errors are those of Place.
func (p *Placer) resolve(name string) (in *place, full string, err error) {
	dir, element := split(name)
	if dir == p.lastDir && p.lastPlace != nil {
		in = p.lastPlace
	} else {
		w := &walk{}
		var ok bool
		if in, ok = p.follow(dir, w); !ok {
			return nil, "", p.refusal(name, w)
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
		return "", p.refusal(target, w)
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
