package rootfs

import (
	"cmp"
	"slices"
	"strings"

	"github.com/waveproxy/waveproxy/layerindex"
)

// removal is a name that a layer removes.
type removal struct {
	layer int
	name  string
}

// markKey names a whiteout or opaque marker of a layer.
type markKey struct {
	kind layerindex.Kind
	name string
}

// mark is where a whiteout or an opaque marker belongs.
type mark struct {
	name string
	drop bool // it hides nothing
}

const (
	// markCost is what a marker costs in memory, in bytes, beside its names, and removalCost
	// what stays of it when the layer has ended.
	markCost    = 320
	removalCost = 96
)

// Layer begins the next layer. Its whiteouts hide what the layers before it have, never
// what it has itself, so they count before its entries. Errors are those of Place.
func (p *Placer) Layer(x *layerindex.Index) error {
	p.layer++
	for key, m := range p.marks {
		p.bytes -= markCost + int64(len(key.name)+len(m.name))
	}
	p.marks = map[markKey]mark{}
	p.forget()
	if x.Simple() {
		return nil // it has none
	}
	var hidden []hiding
	for e := range x.All() {
		if e.Kind != layerindex.Whiteout && e.Kind != layerindex.Opaque {
			break // markers come first
		}
		// What is noted of it below is charged here, before there is more of it.
		p.bytes += markCost + nodeCost + removalCost + 3*int64(len(e.Name))
		if !p.worked(1) {
			return p.labor.err
		}
		h, err := p.hide(x, e)
		if err != nil {
			return err
		}
		p.bytes += int64(len(h.name))
		hidden = append(hidden, h)
	}
	for _, h := range hidden {
		p.bytes -= nodeCost + removalCost + 2*int64(len(h.literal))
	}
	p.forget()
	// The uppermost first: what is below a name that goes need not be removed.
	slices.SortStableFunc(hidden, func(a, b hiding) int {
		if !p.worked(1) {
			return 0
		}
		return cmp.Or(cmp.Compare(len(a.name), len(b.name)), strings.Compare(a.name, b.name), cmp.Compare(a.kind, b.kind))
	})
	for _, h := range hidden {
		if !p.worked(1) {
			return p.labor.err
		}
		_, gone := p.removed[removal{p.layer, h.name}]
		h.drop = h.drop || p.isCovered(h.name) || h.kind == layerindex.Opaque && gone
		p.marks[markKey{h.kind, h.literal}] = h.mark
		if h.drop || h.nothing {
			continue
		}
		n := p.nodes[h.name]
		n.cover = p.layer
		if h.kind == layerindex.Whiteout {
			n = node{kind: Absent, layer: p.layer, cover: p.layer}
			key := removal{p.layer, h.name}
			if !p.learned {
				p.removed[key] = Absent
				p.bytes += removalCost + int64(len(h.name))
			}
		}
		p.note(h.name, n)
	}
	p.forget()
	p.setRoot() // which may be opaque now
	return p.labor.err
}

// hiding is a marker of the layer that begins, and where it belongs.
type hiding struct {
	kind    layerindex.Kind
	literal string // its name
	mark
	nothing bool // there is nothing that it could hide
}

// hide finds where a marker belongs. Errors are those of Place.
func (p *Placer) hide(x *layerindex.Index, e layerindex.Entry) (hiding, error) {
	h := hiding{kind: e.Kind, literal: e.Name}
	dir := e.Name
	var at *place
	if e.Kind == layerindex.Whiteout {
		dir, _ = split(e.Name)
		var err error
		if at, h.name, err = p.resolve(e.Name); err != nil {
			return h, err
		}
	} else {
		w := &walk{}
		var ok bool
		if at, ok = p.follow(e.Name, w); !ok {
			return h, p.refusal(e.Name, w)
		}
		h.name = at.name
	}
	own, found := x.Find(dir)
	switch isDir := found && own.Kind == layerindex.Dir || x.HasBelow(dir); {
	case dir == ".":
	case !isDir && (found || at.kind != Dir):
		// Engines would make the directory for the marker.
		h.drop = true
	default:
		h.nothing = at.kind != Dir
	}
	return h, nil
}

// isCovered reports whether the layer hides everything below a directory above the name.
func (p *Placer) isCovered(name string) bool {
	for name != "." && p.worked(1) {
		name, _ = split(name)
		if p.nodes[name].cover == p.layer {
			return true
		}
	}
	return false
}

// placeMark returns what becomes of a marker of the layer.
func (p *Placer) placeMark(e layerindex.Entry) Placed {
	m, ok := p.marks[markKey{e.Kind, e.Name}]
	if !ok || p.isCovered(m.name) {
		m.drop = true // engines skip it, or what it hides has been hidden since
	}
	out := Placed{Name: m.name, Kind: e.Kind, Drop: m.drop, changed: m.drop || m.name != e.Name}
	if e.Kind == layerindex.Whiteout {
		// One archive cannot remove a name and have it: engines go by the order, or
		// let the base's content back in.
		switch p.removed[removal{p.layer, m.name}] {
		case Dir:
			out.Kind = layerindex.Opaque
		case Link, Other:
			out.Drop = true
		}
	}
	if out.Drop {
		return out
	}
	at, ok := p.follow(m.name, &walk{})
	if parent, _ := split(m.name); e.Kind == layerindex.Whiteout || ok && at.kind != Dir {
		// A directory that the layer makes itself is made by its entries.
		at, ok = p.follow(parent, &walk{})
	}
	if ok {
		p.makeParents(at, &out)
	}
	return out
}
