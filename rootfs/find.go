package rootfs

import (
	"iter"
	"strings"

	"github.com/waveproxy/waveproxy/layerindex"
)

// maxSteps bounds the names that one search goes through. Real ones take some twenty.
const maxSteps = 512

// reached is a directory on the way of a search.
type reached struct {
	name string
	node Node
	dir  *dir // nil: nothing is in it
}

// Find returns where a cleaned, relative name leads, links followed also at its end; what
// stands there; and of what is no directory the layer that has it, counted from the bottom.
// What leads in a circle, through a file, or through more than maxLinks links, maxDepth
// directories or maxSteps names is absent.
func (s *Stack) Find(name string) (full string, n Node, layer int) {
	way := []reached{{".", s.rootNode(), s.root()}}
	links := 0
	rest := strings.Split(name, "/")
	for steps := 0; len(rest) > 0; steps++ {
		element := rest[0]
		rest = rest[1:]
		in := way[len(way)-1]
		switch element {
		case "", ".":
			continue
		case "..":
			way = way[:max(1, len(way)-1)] // of the root itself it is the root
			continue
		}
		full = join(in.name, element)
		if in.dir == nil || steps > maxSteps || len(way) > maxDepth {
			return full, Node{}, 0
		}
		n, bottom := s.child(in.dir, full)
		switch n.Kind {
		case Dir:
			way = append(way, reached{full, n, s.open(in.dir, full, bottom)})
		case Link:
			if links++; links > maxLinks {
				return full, Node{}, 0
			}
			if strings.HasPrefix(n.Entry.Target, "/") {
				way = way[:1]
			}
			rest = append(strings.Split(n.Entry.Target, "/"), rest...)
		case Other:
			if len(rest) > 0 {
				return full, Node{}, 0
			}
			return full, n, s.top(full)
		case Absent:
			return full, Node{}, 0
		}
	}
	last := way[len(way)-1]
	return last.name, last.node, 0
}

// top returns the uppermost layer that has an entry at the name.
func (s *Stack) top(name string) int {
	for i := len(s.layers) - 1; i > 0; i-- {
		if _, ok := s.layers[i].Find(name); ok {
			return i
		}
	}
	return 0
}

// Ending yields the names of files and links of one layer that end so. Not all of them
// need be there when the layers stand together.
func (s *Stack) Ending(layer int, suffix string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for e := range s.layers[layer].All() {
			if (e.Kind == layerindex.Other || e.Kind == layerindex.Link) && strings.HasSuffix(e.Name, suffix) && !yield(e.Name) {
				return
			}
		}
	}
}

// Bytes returns the memory of the index of one layer.
func (s *Stack) Bytes(layer int) int64 { return s.layers[layer].Bytes() }
