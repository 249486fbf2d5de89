package rootfs

import (
	"path"
	"strings"

	"github.com/waveproxy/waveproxy/layerindex"
)

// Placer tells where the entries of added layers land, as they come. One goroutine
// uses it.
//
// The layers are those of one archive: what an earlier one has and a later one replaces
// is in the archive once. For layers that stay apart, each has a Placer of its own, over
// a Stack that has the layers before it.
type Placer struct {
	base *Stack

	nodes  map[string]node
	told   map[string]bool  // directories of the base whose attributes the archive has
	marks  map[markKey]mark // of this layer
	places map[string]*place
	root   *place
	layer  int   // the one whose entries come; the first is 1
	bytes  int64 // without places

	changed bool

	lastDir     string // literally
	lastPlace   *place // where it leads
	placesBytes int64

	// removed has the names that a layer removes, and what it makes of them again. It is
	// complete after the first pass.
	removed map[removal]Kind
	learned bool

	entry string // the name of the entry that is being placed
	watch *watch // nil unless the layer is watched
	labor labor
}

// node is what the added layers have made of a name.
type node struct {
	kind    Kind
	layer   int    // that made it so; 0: none, only cover counts
	cover   int    // what layers before this one have below the name does not show
	target  string // of a link
	overDir bool   // the base has a directory at the name, which would come back with one
}

// Placed is what to write for an entry.
type Placed struct {
	// Name is where the entry lands. Of a Whiteout it is the hidden name, of Opaque the
	// directory.
	Name string
	// Kind is the entry's, or Opaque for a Whiteout of what the layer has anew.
	Kind layerindex.Kind
	// Drop says that the entry is not to be written.
	Drop bool
	// Target is where a hard link leads.
	Target string
	// Attributes, of a directory, replace its own; nil: its own stay.
	Attributes *layerindex.Entry
	// Before are directories and Opaque markers to be written before the entry.
	Before  []layerindex.Entry
	changed bool // the entry alone, with its own name and attributes, would not do
}

// NewPlacer returns a Placer over a base. What it does takes no notice of others until During
// is called.
func NewPlacer(base *Stack) *Placer {
	p := &Placer{base: base, removed: map[removal]Kind{}}
	p.start()
	return p
}

// Restart begins another pass over the same layers. The second pass and the following
// ones know what the first one learned and give the same results.
func (p *Placer) Restart() {
	p.learned = true
	p.start()
}

// Anew returns a Placer over the same base that has learned nothing.
func (p *Placer) Anew() *Placer {
	anew := NewPlacer(p.base)
	anew.During(p.labor.step)
	return anew
}

func (p *Placer) start() {
	p.nodes, p.told, p.places = map[string]node{}, map[string]bool{}, map[string]*place{}
	p.layer, p.bytes, p.placesBytes, p.lastPlace = 0, 0, 0, nil
	p.setRoot()
}

// setRoot makes the root's place.
func (p *Placer) setRoot() {
	p.root = &place{name: ".", kind: Dir, base: p.base.root(), node: p.base.rootNode(), min: p.nodes["."].cover}
	p.root.in = p.root
	p.root.mixedBelow = known(p.base.hidesBelow("."))
}

// Changed reports whether the layers, as far as their entries have come, must be written
// anew: one of them would not do as it is.
func (p *Placer) Changed() bool { return p.changed }

const (
	// What a name costs in memory, in bytes, beside its own.
	nodeCost  = 192
	placeCost = 360
	xattrCost = 96 // an extended attribute of a directory
)

// Bytes returns how much memory the Placer has, beside its Stack.
func (p *Placer) Bytes() int64 { return p.bytes + p.placesBytes }

// Place returns where an entry of the layer lands. Of hard links, Target is where they
// lead, as Name is: a cleaned name. keepsModes says that directories which are there
// already keep their attributes. Errors are *LoopError, *DepthError, and those of the function
// given to During.
func (p *Placer) Place(e layerindex.Entry, keepsModes bool) (Placed, error) {
	p.worked(1)
	out, err := p.place(e, keepsModes)
	if p.labor.err != nil {
		return Placed{}, p.labor.err
	}
	p.changed = p.changed || out.changed
	return out, err
}

func (p *Placer) place(e layerindex.Entry, keepsModes bool) (Placed, error) {
	switch {
	case e.Kind == layerindex.Whiteout || e.Kind == layerindex.Opaque:
		return p.placeMark(e), nil
	case e.Name == ".":
		same := sameAttributes(e, p.root.node.Entry)
		return Placed{Name: ".", Kind: e.Kind, Drop: keepsModes, changed: keepsModes && !same}, nil
	}
	in, name, err := p.resolve(e.Name)
	if err != nil {
		return Placed{}, err
	}
	p.entry = e.Name
	out := Placed{Name: name, Kind: e.Kind, changed: name != e.Name}
	v := p.look(in, name)
	switch e.Kind {
	case layerindex.Dir:
		if p.leadsToDir(in, name, v) {
			return Placed{Name: name, Kind: e.Kind, Drop: true, changed: true}, nil
		}
		p.makeParents(in, &out)
		p.placeDir(e, v, keepsModes, &out)
	case layerindex.Link:
		if p.leadsToItself(e, name) {
			return Placed{Name: name, Kind: e.Kind, Drop: true, changed: true}, nil
		}
		p.makeParents(in, &out)
		p.set(name, v, node{kind: Link, target: e.Target})
	default:
		if e.Target != "" { // before the entry itself can change where it leads
			if out.Target, err = p.resolveTarget(e.Target); err != nil {
				return Placed{}, err
			}
			out.Drop = out.Target == name // both names are one file
		}
		if !out.Drop {
			p.cameFile(name, e.Name)
			p.makeParents(in, &out)
			p.placeFile(out, v)
		}
	}
	return out, nil
}

// placeFile notes a file. Most files need no note: nothing goes through them.
func (p *Placer) placeFile(out Placed, v view) {
	name := out.Name
	if to := p.nodes[out.Target]; out.Target != "" && to.kind == Link { // a hard link to a symbolic one is that link
		p.set(name, v, node{kind: Link, target: to.target})
		return
	}
	if _, known := p.nodes[name]; known || v.kind == Dir || v.kind == Link {
		p.set(name, v, node{kind: Other})
	}
}

// placeDir notes a directory and decides on its attributes.
func (p *Placer) placeDir(e layerindex.Entry, v view, keepsModes bool, out *Placed) {
	name := out.Name
	p.came(name, e.Name)
	if v.kind != Dir {
		if v.kind == Link {
			out.changed = true // whether its target is there may depend on the order of entries
		}
		p.reopen(name, v.refill, out)
		p.set(name, v, node{kind: Dir})
		return
	}
	switch {
	case !keepsModes:
		p.tell(name)
	case !v.isBase:
		// Within a layer, the last entry of a directory counts.
		out.Drop = p.nodes[name].layer < p.layer
	case v.node.Implied || p.told[name]:
		out.Drop = true
	default:
		p.tell(name)
		if !sameAttributes(e, v.node.Entry) {
			out.changed = true
		}
		base := v.node.Entry
		out.Attributes = &base
	}
	out.changed = out.changed || out.Drop
}

// leadsToDir reports whether the name is a link that leads to a directory.
func (p *Placer) leadsToDir(in *place, name string, v view) bool {
	if v.kind != Link {
		return false
	}
	at, ok := p.step(in, name, &walk{by: p.entry})
	if ok {
		p.came(at.name, p.entry)
	}
	return ok && at.kind == Dir
}

// leadsToItself reports whether a link would lead to itself because its own name or its
// target is below a link: an author who has bin and usr/bin apart links one name to the
// other, and where both are one directory, the link would take the file's place.
func (p *Placer) leadsToItself(e layerindex.Entry, name string) bool {
	dir, _ := split(e.Name)
	target := path.Join("/", e.Target)
	if !strings.HasPrefix(e.Target, "/") {
		target = path.Join("/", dir, e.Target)
	}
	if target = target[1:]; target == e.Name || target == "" {
		return false // the author's own mistake, or the root
	}
	in, full, err := p.resolve(target)
	if err != nil || full == name {
		return err == nil
	}
	if p.look(in, full).kind != Link {
		return false
	}
	at, ok := p.step(in, full, &walk{})
	return ok && at.name == name
}

// makeParents notes that the directory and all above it are there, and has those written
// that engines would make otherwise than they are.
func (p *Placer) makeParents(in *place, out *Placed) {
	if in.in == in || in.done == p.layer || !p.worked(1) {
		return
	}
	p.makeParents(in.in, out)
	in.done = p.layer
	if in.kind != Dir {
		p.reopen(in.name, in.refill, out)
		p.note(in.name, node{kind: Dir, layer: p.layer, cover: p.nodes[in.name].cover, overDir: p.nodes[in.name].overDir})
		in.kind, in.refill = Dir, false
		if p.mixed(in) {
			out.Before = append(out.Before, plainDir(in.name))
			out.changed = true
		}
	}
	if p.nodes[in.name].layer > 0 || p.told[in.name] || in.node.Kind != Dir {
		return
	}
	if base := in.node.Entry; !in.node.Implied && (inheritsGroup(in) || !sameAttributes(base, plainDir(""))) {
		p.tell(in.name)
		base.Name = in.name
		out.Before = append(out.Before, base)
		out.changed = true
	}
}

// inheritsGroup reports whether an engine that makes the directory would give it the
// set-group-ID bit and the group of a directory above it, which the base's has not.
// Directories between them that no entry names have both.
func inheritsGroup(at *place) bool {
	const setGID = 0o2000
	if at.node.Unnamed {
		return false
	}
	in := at.in
	for in.node.Kind == Dir && in.node.Unnamed {
		in = in.in
	}
	return in.node.Kind == Dir && in.node.Entry.Mode&setGID != 0
}

// reopen has an Opaque marker written for a directory that takes the place of a file
// which an added layer has put in place of the base's directory. Otherwise what the
// base has in it would come back.
func (p *Placer) reopen(name string, refill bool, out *Placed) {
	if refill {
		out.Before = append(out.Before, layerindex.Entry{Name: name, Kind: layerindex.Opaque})
		out.changed = true
	}
}

// tell notes that the archive has the attributes of a directory of the base.
func (p *Placer) tell(name string) {
	if !p.told[name] {
		p.told[strings.Clone(name)] = true
		p.bytes += nodeCost + int64(len(name))
	}
}

// set notes what an entry makes of a name that was v.
func (p *Placer) set(name string, v view, n node) {
	p.came(name, p.entry)
	old := p.nodes[name]
	n.layer, n.cover, n.overDir = p.layer, old.cover, old.overDir
	if n.kind != Dir && v.kind == Dir { // what is in the directory goes
		n.cover = p.layer
		n.overDir = old.overDir || v.isBase
	}
	p.note(name, n)
	// What was entered under the name, or through it, is somewhere else now.
	if v.kind == Dir || v.kind == Link || n.kind == Link && p.leads(name) {
		p.forget()
	} else if at := p.places[name]; at != nil {
		at.kind, at.refill = n.kind, false
	}
}

// note stores a node.
func (p *Placer) note(name string, n node) {
	old, known := p.nodes[name]
	if !known {
		p.bytes += nodeCost + int64(len(name))
	}
	p.bytes += int64(len(n.target) - len(old.target))
	p.nodes[strings.Clone(name)] = n
	if key := (removal{p.layer, name}); !p.learned && n.layer == p.layer && n.kind != Absent {
		if _, removed := p.removed[key]; removed {
			p.removed[key] = n.kind
			p.changed = true
		}
	}
}
