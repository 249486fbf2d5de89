package rootfs

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/layerindex"
)

// entry is an entry of a layer.
type entry struct {
	name     string
	kind     byte
	mode     int64
	uid, gid int
	text     string // of a file; where a link leads
}

func (e entry) String() string {
	return fmt.Sprintf("%c %s %o %d:%d %q", e.kind, e.name, e.mode, e.uid, e.gid, e.text)
}

// hides returns what a marker hides; opaque: what is below the name.
func (e entry) hides() (name string, opaque, ok bool) {
	dir, base := path.Split(e.name)
	hidden, ok := strings.CutPrefix(base, ".wh.")
	if base == ".wh..wh..opq" {
		return path.Clean(dir), true, true
	}
	return dir + hidden, false, ok
}

func archiveOf(entries []entry) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: e.mode, Uid: e.uid, Gid: e.gid}
		if e.kind == tar.TypeReg {
			h.Size = int64(len(e.text))
		} else {
			h.Linkname = e.text
		}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		if e.kind == tar.TypeReg {
			_, _ = io.WriteString(w, e.text)
		}
	}
	_ = w.Close()
	return b.Bytes()
}

func indexOf(t testing.TB, entries []entry) *layerindex.Index {
	t.Helper()
	x, err := layerindex.Read(t.Context(), bytes.NewReader(archiveOf(entries)))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func stackOf(t testing.TB, layers [][]entry) *Stack {
	t.Helper()
	s := NewStack()
	for _, l := range layers {
		s = s.With(indexOf(t, l))
	}
	return s
}

func (e entry) indexed() layerindex.Entry {
	out := layerindex.Entry{Name: path.Clean(e.name), Kind: layerindex.Other}
	if name, opaque, ok := e.hides(); ok {
		if out.Name, out.Kind = name, layerindex.Whiteout; opaque {
			out.Kind = layerindex.Opaque
		}
		return out
	}
	switch e.kind {
	case tar.TypeDir:
		out.Kind, out.Mode, out.UID, out.GID = layerindex.Dir, e.mode, e.uid, e.gid
	case tar.TypeSymlink:
		out.Kind, out.Target = layerindex.Link, e.text
	case tar.TypeLink:
		out.Target = e.text
	}
	return out
}

// placed returns the layers as they would be written, as one archive. changed is false
// if they could stay.
func placed(t testing.TB, base *Stack, keepsModes bool, layers ...[]entry) (out []entry, changed bool, err error) {
	t.Helper()
	p := NewPlacer(base)
	for pass := range 2 {
		if pass == 1 {
			changed = p.Changed()
			p.Restart()
			out = nil
		}
		for _, l := range layers {
			if err := p.Layer(indexOf(t, l)); err != nil {
				return nil, false, err
			}
			for _, e := range l {
				written, err := writtenFor(p, e, keepsModes)
				if err != nil {
					return nil, false, err
				}
				out = append(out, written...)
			}
		}
	}
	return overlaid(out), changed, nil
}

// overlaid returns the entries without those that later ones replace, as the package
// augment writes archives.
func overlaid(entries []entry) []entry {
	var out []entry
	for i, e := range entries {
		if !slices.ContainsFunc(entries[i+1:], func(later entry) bool {
			return later.name == e.name || e.kind != tar.TypeDir && strings.HasPrefix(later.name, e.name+"/")
		}) {
			out = append(out, e)
		}
	}
	return out
}

// writtenFor returns what is written for one entry.
func writtenFor(p *Placer, e entry, keepsModes bool) ([]entry, error) {
	placed, err := p.Place(e.indexed(), keepsModes)
	if err != nil {
		return nil, err
	}
	var out []entry
	for _, b := range placed.Before {
		out = append(out, written(entry{kind: tar.TypeDir}, b.Name, b.Kind, &b))
	}
	if placed.Drop {
		return out, nil
	}
	if e.kind == tar.TypeLink {
		e.text = placed.Target
	}
	return append(out, written(e, placed.Name, placed.Kind, placed.Attributes)), nil
}

func written(e entry, name string, kind layerindex.Kind, attributes *layerindex.Entry) entry {
	if attributes != nil {
		e.mode, e.uid, e.gid = attributes.Mode, attributes.UID, attributes.GID
	}
	switch e.name = name; kind {
	case layerindex.Whiteout:
		dir, base := path.Split(name)
		e.name = dir + ".wh." + base
	case layerindex.Opaque:
		e.name, e.kind = path.Join(name, ".wh..wh..opq"), tar.TypeReg
	}
	return e
}

// item is what a file system has at a name.
type item struct {
	kind     byte
	mode     int64
	uid, gid int
	text     string
}

// tree is a file system by name, without its root.
type tree map[string]item

// below removes what is below a name.
func (t tree) below(name string) {
	for other := range t {
		if name == "." || strings.HasPrefix(other, name+"/") {
			delete(t, other)
		}
	}
}

// unpack puts a layer over the file system as engines do: its names literally, each
// layer in a directory of its own that the kernel lays over the others.
func (t tree) unpack(layer []entry) error {
	upper, implied := tree{}, map[string]bool{}
	for _, e := range layer {
		name := path.Clean(e.name)
		target, opaque, marker := e.hides()
		if opaque {
			t.below(target)
			name = path.Join(target, "x")
		} else if marker {
			delete(t, target)
			t.below(target)
			name = target
		}
		for i, c := range name {
			if c != '/' {
				continue
			}
			dir := name[:i]
			if at, ok := upper[dir]; !ok {
				upper[dir], implied[dir] = item{kind: tar.TypeDir, mode: 0o755}, true
			} else if at.kind != tar.TypeDir {
				return fmt.Errorf("%s is below %s, which the layer has as %c", name, dir, at.kind)
			}
		}
		if marker {
			if _, both := upper[target]; both && !opaque {
				return fmt.Errorf("%s is removed and made", name)
			}
			continue
		}
		if name == "." {
			continue
		}
		if e.kind != tar.TypeDir {
			upper.below(name)
		}
		new := item{e.kind, e.mode, e.uid, e.gid, e.text}
		switch e.kind {
		case tar.TypeSymlink:
			new = item{kind: e.kind, text: e.text}
		case tar.TypeLink:
			var ok bool
			if new, ok = upper[e.text]; !ok || new.kind == tar.TypeDir {
				return fmt.Errorf("%s is a hard link to %s, which the layer does not have", name, e.text)
			}
		}
		upper[name] = new
		delete(implied, name)
	}
	for name, i := range upper {
		if i.kind != tar.TypeDir || t[name].kind != tar.TypeDir {
			t.below(name)
		}
	}
	for name, i := range upper {
		t[name] = i
	}
	return nil
}
