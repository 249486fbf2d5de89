package rootfs

import (
	"strings"

	"github.com/waveproxy/waveproxy/layerindex"
)

// spelling is a name by which entries of a layer came to another one, through links.
type spelling struct {
	name    string // "" is the text of a link
	several bool   // there are other ones
}

// spellingCost is what a spelling costs in memory, in bytes, beside its names.
const spellingCost = 160

// watch finds out whether the order of a layer's entries matters.
type watch struct {
	index     *layerindex.Index
	spellings map[string]spelling
	matters   bool
}

// Watch begins to remember by which names the entries of the layer come to where they
// land, for OrderMatters.
func (p *Placer) Watch(x *layerindex.Index) {
	p.watch = &watch{index: x, spellings: map[string]spelling{}}
}

// OrderMatters ends what Watch began. It reports whether the entries of the layer, placed
// in the order of their names, might land elsewhere in another order: one of them has
// made something at a name to which others come by another name. Which links are left
// out because they would lead to themselves is not considered. Errors are those of the function given to During.
func (p *Placer) OrderMatters() (bool, error) {
	w := p.watch
	p.watch = nil
	for name, s := range w.spellings {
		p.bytes -= spellingCost + int64(len(name)+len(s.name))
	}
	for name, s := range w.spellings {
		if w.matters || !p.worked(lookUps) {
			break
		}
		if p.nodes[name].layer == p.layer || p.told[name] {
			dir, _ := split(name)
			w.matters = s.several || w.spellings[dir].several || w.literally(name)
		}
	}
	return w.matters, p.labor.err
}

// literally reports whether the layer has an entry at the name or below it.
func (w *watch) literally(name string) bool {
	_, found := w.index.Find(name)
	return found || w.index.HasBelow(name)
}

// cameFile is came for a file, of which most layers have too many to remember each.
func (p *Placer) cameFile(name, by string) {
	if p.watch != nil && name != by && !p.watch.matters {
		p.watch.matters = p.watch.literally(name)
	}
}

// came notes that an entry came to a name by another one.
func (p *Placer) came(name, by string) {
	if p.watch == nil || name == by {
		return
	}
	s, known := p.watch.spellings[name]
	if known {
		if s.name != by && !s.several {
			s.several = true
			p.watch.spellings[name] = s
		}
		return
	}
	p.watch.spellings[strings.Clone(name)] = spelling{name: strings.Clone(by)}
	p.bytes += spellingCost + int64(len(name)+len(by))
}
