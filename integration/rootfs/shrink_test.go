package rootfs

import (
	"context"
	"regexp"
	"slices"
	"strings"
)

// smaller leaves out layers and entries of a failing case as long as it fails, and
// returns what is left with its problems.
func (b *bench) smaller(ctx context.Context, s stack, problems []string) (stack, []string) {
	for again := true; again; {
		again = false
		for _, candidate := range s.without() {
			if p, err := b.run(ctx, candidate); err == nil && len(p) > 0 && kindOf(p) == kindOf(problems) {
				s, problems, again = candidate, p, true
				break
			}
		}
	}
	return s, problems
}

// with returns the case with other layers.
func (s stack) with(base, added []layer) stack {
	s.Base, s.Added = base, added
	return s
}

// without returns the case without one layer, or without one entry.
func (s stack) without() []stack {
	var list []stack
	for i := range s.Base {
		if len(s.Base) > 1 {
			list = append(list, s.with(slices.Delete(slices.Clone(s.Base), i, i+1), s.Added))
		}
	}
	for i := range s.Added {
		if len(s.Added) > 1 {
			list = append(list, s.with(s.Base, slices.Delete(slices.Clone(s.Added), i, i+1)))
		}
	}
	for i, l := range s.Added {
		for j := range l {
			list = append(list, s.with(s.Base, withoutEntry(s.Added, i, j)))
		}
	}
	for i, l := range s.Base {
		for j := range l {
			list = append(list, s.with(withoutEntry(s.Base, i, j), s.Added))
		}
	}
	return list
}

func withoutEntry(layers []layer, i, j int) []layer {
	layers = slices.Clone(layers)
	layers[i] = slices.Delete(slices.Clone(layers[i]), j, j+1)
	return layers
}

// kindOf tells problems apart roughly: by the first one's engine, and whether it is a
// difference, of what types, or an error, of what kind. A case that is made smaller must
// not turn into another problem.
func kindOf(problems []string) string {
	problem := problems[0]
	if match := difference.FindStringSubmatch(problem); match != nil {
		return match[1] + match[2] + match[3]
	}
	engine, rest, _ := strings.Cut(problem, ": ")
	return engine + rest[:min(len(rest), 10)] + rest[strings.LastIndex(rest, ":")+1:]
}

var difference = regexp.MustCompile(`^(\w+): .*: image has (\w+) .* ?tar leaves (\w+)`)
