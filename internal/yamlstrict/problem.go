package yamlstrict

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Position is where a value was given. The zero Position is nowhere: the value
// is a default.
type Position struct {
	Source string // the file or variable
	Line   int    // from 1; 0 where lines mean nothing
}

func (p Position) String() string {
	if p.Line > 0 {
		return fmt.Sprintf("%s:%d", p.Source, p.Line)
	}
	return p.Source
}

// Problem is one thing that is wrong with a value.
type Problem struct {
	Position
	Key  string // "http.addr"; empty where there is no key
	Text string
}

func (p *Problem) Error() string {
	var parts []string
	for _, part := range []string{p.Position.String(), p.Key, p.Text} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ": ")
}

// Add reports a problem that belongs to the value at a key, under the same or
// another key. Its position is where the value or, if it is not given, the section
// around it was given.
func (d *Decoder) Add(at, key, text string) {
	d.problems = append(d.problems, &Problem{d.position(at), key, text})
}

// Failed reports whether a value of the key, or of a key below it, was not
// understood, so that what the struct has there means nothing.
func (d *Decoder) Failed(key string) bool {
	return slices.ContainsFunc(d.failed, func(bad string) bool { return within(bad, key) })
}

// Unreliable reports whether the key is Failed or part of a value that was not
// understood.
func (d *Decoder) Unreliable(key string) bool {
	return d.Failed(key) || slices.ContainsFunc(d.failed, func(bad string) bool { return within(key, bad) })
}

// within reports whether a key is another one or below it.
func within(key, section string) bool {
	rest, ok := strings.CutPrefix(key, section)
	return ok && (rest == "" || section == "" || rest[0] == '.' || rest[0] == '[')
}

// Err returns all problems, one a line, or nil. They are in the order of the
// lines of a source, and sources in the order in which they were read.
func (d *Decoder) Err() error {
	order := func(p *Problem) int {
		i := slices.Index(d.sources, p.Source)
		if i < 0 {
			return len(d.sources) // defaults
		}
		return i
	}
	slices.SortStableFunc(d.problems, func(a, b *Problem) int {
		return cmp.Or(order(a)-order(b), a.Line-b.Line)
	})
	var errs []error
	for _, p := range d.problems {
		errs = append(errs, p)
	}
	return errors.Join(errs...)
}

// position returns where the key, or the nearest section around it, was given.
func (d *Decoder) position(key string) Position {
	for key != "" {
		if at, ok := d.positions[key]; ok {
			return at
		}
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
	return Position{}
}

// HideUser hides the user and password of a URL or host, where people put them by
// mistake, and the query and fragment, where signatures are.
func HideUser(s string) string {
	if i := strings.IndexAny(s, "?#"); i >= 0 {
		s = s[:i] + s[i:i+1] + "***"
	}
	if i := strings.LastIndex(s, "@"); i >= 0 {
		return "***" + s[i:]
	}
	return s
}
