package rootfs

import (
	"archive/tar"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"strings"
)

// generator makes one case.
type generator struct {
	*rand.Rand
	now   sketch          // of all layers so far
	ever  map[string]bool // names that some layer has a file or a link at, or hides
	files int             // so far: each has a content of its own
}

// maxBase is how many layers a base has at most.
const maxBase = 4

// generate makes a case. Equal seeds and attempts make equal cases.
func generate(seed, attempt uint64) stack {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, attempt)), now: sketch{}, ever: map[string]bool{}}
	s := stack{Seed: seed}
	for i := range 1 + g.IntN(maxBase) {
		s.Base = append(s.Base, g.layer(i == 0, false))
	}
	for range 1 + g.IntN(3) {
		s.Added = append(s.Added, g.layer(false, true))
	}
	return s
}

// chance is true in n of 100 cases.
func (g *generator) chance(n int) bool { return g.IntN(100) < n }

func pick[T any](g *generator, from []T) T { return from[g.IntN(len(from))] }

// building is a layer that is being made.
type building struct {
	entries layer
	own     map[string]byte // kinds by clean name
	hidden  map[string]bool // by whiteouts
	opaque  map[string]bool
	added   bool
	dirs    bool // the layer has entries for directories
}

// layer makes a base layer or an added one. The bottom layer has no whiteouts.
func (g *generator) layer(bottom, added bool) layer {
	b := &building{own: map[string]byte{}, hidden: map[string]bool{}, opaque: map[string]bool{}, added: added, dirs: !g.chance(25)}
	want := 1 + g.IntN(7)
	if bottom {
		want += 5
	}
	if g.chance(5) {
		b.entries = append(b.entries, entry{Name: "./", Kind: tar.TypeDir, Mode: 0o755})
	}
	below := maps.Clone(g.now) // what the layers below are
	for try := 0; len(b.entries) < want && try < 60; try++ {
		e := g.entry(b, bottom, below)
		if !b.allows(g, e) {
			continue
		}
		must := g.mustNameParents(b, e.clean())
		if b.dirs && g.chance(60) || must {
			g.parents(b, e.clean())
		}
		if must && !b.namesParents(e.clean()) {
			continue
		}
		g.append(b, e)
	}
	return b.entries
}

// append adds an entry in one of the spellings that archives have.
func (g *generator) append(b *building, e entry) {
	name := e.clean()
	if hidden, opaque, ok := e.hides(); !ok {
		b.own[name] = e.Kind
	} else if opaque {
		b.opaque[hidden] = true
	} else {
		b.hidden[hidden] = true
	}
	was := maps.Clone(g.now)
	g.now.put(e)
	for old := range was {
		if _, still := g.now[old]; !still {
			g.ever[old] = true
		}
	}
	g.ever[name] = g.ever[name] || e.Kind != tar.TypeDir
	if e.Kind == tar.TypeDir && !g.chance(10) {
		e.Name += "/"
	}
	if g.chance(10) {
		e.Name = "./" + e.Name
	}
	b.entries = append(b.entries, e)
}

// parents adds entries for the directories above a name that the layer lacks.
func (g *generator) parents(b *building, name string) {
	for i, c := range name {
		if c != '/' {
			continue
		}
		dir := name[:i]
		if _, ok := b.own[dir]; !ok {
			if e := g.directory(dir); b.allows(g, e) {
				g.append(b, e)
			}
		}
	}
}

// allows reports whether the layer stays one that engines can unpack.
func (b *building) allows(g *generator, e entry) bool {
	name := e.clean()
	hidden, opaque, marker := e.hides()
	if marker {
		name = hidden
	}
	if b.opaque[name] && e.Kind != tar.TypeDir && !opaque {
		return false
	}
	// Docker refuses a layer that has a name twice.
	if kind, twice := b.own[name]; b.hidden[name] || twice && !opaque || opaque && (b.opaque[name] || twice && kind != tar.TypeDir) {
		return false // a name that is hidden and made in one layer is another case in each engine
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		kind, ok := b.own[dir]
		switch {
		case b.hidden[dir] || marker && ok && kind != tar.TypeDir:
			return false
		case ok && kind == tar.TypeSymlink:
			// A link of the layer itself that engines follow: it must lead to a
			// directory of the layer, because Docker sees no other.
			real, known := g.now.lookup(dir)
			if !known || b.own[real] != tar.TypeDir && !b.added || !b.added && !*gaps {
				return false
			}
		case ok && kind != tar.TypeDir:
			return false
		}
	}
	if opaque {
		return *gaps || !within(b.own, name)
	}
	if _, _, loop := g.now.follow(name); loop && b.added && e.Kind == tar.TypeDir && !*gaps {
		return false
	}
	// What an entry other than a directory would undo. Of a directory that comes after its
	// files, containerd keeps extended attributes from the layers below.
	if e.Kind != tar.TypeDir || !b.added && len(g.now[name].Xattrs) > 0 {
		return !within(b.own, name) && !within(b.hidden, name) && !within(b.opaque, name) && !b.opaque[name]
	}
	return true
}

var components = []string{"a", "b", "c", "bin", "lib", "usr", "etc", "opt"}

// name returns a name for an entry: often below a directory or link that exists.
func (g *generator) name(below sketch) string {
	dirs := g.now.names(tar.TypeDir, tar.TypeSymlink)
	links := below.names(tar.TypeSymlink)
	all := g.now.names()
	switch n := g.IntN(100); {
	case n < 30 && len(links) > 0:
		return g.deeper(pick(g, links))
	case n < 65 && len(dirs) > 0:
		return g.deeper(pick(g, dirs))
	case n < 80 && len(all) > 0:
		return pick(g, all)
	}
	return g.deeper("")
}

// deeper returns a name one to three elements below a directory.
func (g *generator) deeper(dir string) string {
	for range 1 + g.IntN(4)/2 {
		dir = path.Join(dir, pick(g, components))
	}
	if strings.Count(dir, "/") > 5 {
		return pick(g, components)
	}
	return dir
}

func (g *generator) entry(b *building, bottom bool, below sketch) entry {
	name := g.name(below)
	switch n := g.IntN(100); {
	case n < 30 && b.dirs:
		return g.directory(name)
	case n < 50 && !b.added || n < 40:
		return entry{Name: name, Kind: tar.TypeSymlink, Mode: 0o777, Link: g.target(name)}
	case n < 62 && !bottom:
		if e, ok := g.marker(below); ok {
			return e
		}
	case n < 67:
		if e, ok := g.hardLink(b, name); ok {
			return e
		}
	}
	return g.file(name)
}

func (g *generator) directory(name string) entry {
	e := entry{Name: name, Kind: tar.TypeDir, Mode: 0o755}
	if g.chance(40) {
		e.Mode = pick(g, []int64{0o700, 0o750, 0o1777, 0o2775, 0o555, 0o711, 0o777, 0})
	}
	if !*gaps {
		e.Mode &^= 0o2000
	}
	g.owner(&e)
	if g.chance(6) {
		e.Xattrs = map[string]string{"user.dir": name}
	}
	return e
}

func (g *generator) file(name string) entry {
	g.files++
	e := entry{Name: name, Kind: tar.TypeReg, Mode: 0o644, Text: fmt.Sprintf("%d", g.files)}
	if g.chance(30) {
		e.Mode = pick(g, []int64{0o600, 0o755, 0o4755, 0o2755, 0o6711, 0o1644, 0})
	}
	g.owner(&e)
	if g.chance(5) {
		e.Xattrs = map[string]string{"user.file": name}
	}
	if g.chance(3) {
		// cap_net_raw, permitted and effective; version 2.
		e.Xattrs = map[string]string{"security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
	}
	return e
}

func (g *generator) owner(e *entry) {
	if g.chance(20) {
		e.UID, e.GID = pick(g, []int{0, 1, 1000, 65534}), pick(g, []int{0, 5, 1000, 4_000_000})
	}
}

// hardLink returns a link to a file of the layer itself, because Docker sees no other.
func (g *generator) hardLink(b *building, name string) (entry, bool) {
	var files layer
	for _, e := range b.entries {
		if _, _, marker := e.hides(); e.Kind == tar.TypeReg && !marker && (e.clean() < name || *gaps && e.clean() != name) {
			files = append(files, e)
		}
	}
	if len(files) == 0 {
		return entry{}, false
	}
	e := pick(g, files)
	e.Link, e.Name, e.Kind, e.Text = e.clean(), name, tar.TypeLink, "" // with the file's attributes, as archives have it
	return e, true
}

// marker hides something that the layers below have.
func (g *generator) marker(below sketch) (entry, bool) {
	all := below.names()
	if len(all) == 0 {
		return entry{}, false
	}
	name := pick(g, all)
	if g.chance(35) {
		dirs := below.names(tar.TypeDir)
		if len(dirs) == 0 {
			return entry{}, false
		}
		return entry{Name: path.Join(pick(g, dirs), opaqueName), Kind: tar.TypeReg, Mode: 0o644}, true
	}
	dir, base := path.Split(name)
	return entry{Name: dir + whiteoutPrefix + base, Kind: tar.TypeReg, Mode: 0o644}, true
}

// target returns where a link at the name leads: to something that exists, along a
// relative or absolute path, or to nothing, or to itself.
func (g *generator) target(name string) string {
	there := g.now.names(pick(g, [][]byte{{tar.TypeDir}, {tar.TypeSymlink, tar.TypeDir}, {}})...)
	var to string
	switch n := g.IntN(100); {
	case n < 70 && len(there) > 0:
		to = pick(g, there)
	case n < 74:
		to = name
	case n < 78:
		return pick(g, []string{"/", ".", "..", "../..", "/.."})
	default:
		to = g.deeper("")
	}
	switch g.IntN(4) {
	case 0:
		return "/" + to
	case 1:
		return g.odd(to, name)
	default:
		return relative(path.Dir(name), to)
	}
}

// odd returns an unusual spelling of a target.
func (g *generator) odd(to, name string) string {
	switch g.IntN(4) {
	case 0:
		return "/../" + to
	case 1:
		return strings.Repeat("../", 2+strings.Count(name, "/")) + to // more than there are
	case 2:
		return "/./" + strings.ReplaceAll(to, "/", "//") + "/"
	default:
		return "/" + path.Join(to, "..", path.Base(to)) + "/."
	}
}
