package rootfs

import (
	"iter"
	"strings"

	"github.com/waveproxy/waveproxy/layerindex"
)

// Find returns where a cleaned, relative name leads, links followed also at its end; what
// stands there; and of what is no directory the layer that has it, counted from the bottom.
// What leads in a circle, through more than maxLinks links or through a file is absent.
func (s *Stack) Find(name string) (full string, n Node, layer int) {
	in, links := ".", 0
	for rest := strings.Split(name, "/"); len(rest) > 0; {
		element := rest[0]
		rest = rest[1:]
		switch element {
		case "", ".":
			continue
		case "..":
			in, _ = split(in) // of the root itself it is the root
			continue
		}
		full = join(in, element)
		switch n = s.Lookup(full); n.Kind {
		case Dir:
			in = full
		case Link:
			if links++; links > maxLinks {
				return full, Node{}, 0
			}
			if strings.HasPrefix(n.Entry.Target, "/") {
				in = "."
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
	return in, s.Lookup(in), 0
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
