package rootfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func d(name string, mode int64) entry     { return entry{name: name, kind: tar.TypeDir, mode: mode} }
func f(name string) entry                 { return entry{name: name, kind: tar.TypeReg, mode: 0o644} }
func l(name, target string) entry         { return entry{name: name, kind: tar.TypeSymlink, text: target} }
func hard(name, target string) entry      { return entry{name: name, kind: tar.TypeLink, text: target} }
func layers(l ...[]entry) [][]entry       { return l }
func owned(e entry, uid int) entry        { e.uid, e.gid = uid, uid; return e }
func names(entries []entry) (text string) { return strings.Join(texts(entries), ", ") }

func texts(entries []entry) (list []string) {
	for _, e := range entries {
		switch e.kind {
		case tar.TypeDir:
			list = append(list, fmt.Sprintf("%s/ %o %d", e.name, e.mode, e.uid))
		case tar.TypeSymlink:
			list = append(list, e.name+" -> "+e.text)
		case tar.TypeLink:
			list = append(list, e.name+" = "+e.text)
		default:
			list = append(list, e.name)
		}
	}
	return list
}

// TestLookup: what layers have together at a name.
func TestLookup(t *testing.T) {
	s := stackOf(t, layers(
		[]entry{d("etc", 0o700), f("etc/a"), f("etc/b"), l("bin", "usr/bin"), d("opt", 0o711), f("opt/x/deep"), f("file"), f("var/x"), d("srv", 0o700), f("srv/www/a")},
		[]entry{f("etc/.wh.a"), f("bin/tool"), f("opt/x/.wh..wh..opq"), d("file", 0o750), f(".wh.var"), f("srv/www/b")},
		[]entry{f("opt/x/new"), l("lib", "/usr/lib"), owned(d("srv/www", 0o755), 7)},
	))
	for name, want := range map[string]string{
		".": "dir 755", "etc": "dir 700 implied", "etc/a": "absent", "etc/b": "other", "bin": "dir 755", "bin/tool": "other", "bin/sh": "absent",
		"opt": "dir 711 implied", "opt/x/deep": "absent", "opt/x/new": "other", "file": "dir 750", "var": "absent", "var/x": "absent",
		"lib": "link /usr/lib", "lib/x": "absent", "srv": "dir 700 implied", "srv/www": "dir 755", "srv/www/a": "other", "none/of/it": "absent",
	} {
		n := s.Lookup(name)
		got := map[Kind]string{Absent: "absent", Dir: fmt.Sprintf("dir %o", n.Entry.Mode), Link: "link " + n.Entry.Target, Other: "other"}[n.Kind]
		if n.Implied {
			got += " implied"
		}
		if got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

// TestPlace: entries land where a container would have them; a layer that engines unpack
// well as it is does not change.
func TestPlace(t *testing.T) {
	for name, test := range map[string]struct {
		base  [][]entry
		added []entry
		want  string // "": it stays
	}{
		"nothing there":                    {nil, []entry{d("a", 0o700), f("a/b"), l("c", "a")}, ""},
		"a link in an upper layer":         {layers([]entry{f("usr/bin/sh")}, []entry{l("bin", "usr/bin")}), []entry{f("bin/agent")}, "usr/bin/agent"},
		"a directory over the link":        {layers([]entry{l("bin", "usr/bin")}, []entry{f(".wh.bin"), d("bin", 0o755)}), []entry{f("bin/agent")}, ""},
		"a link that is removed":           {layers([]entry{l("data", "srv/data")}, []entry{f(".wh.data")}), []entry{f("data/x")}, "data/ 755 0, data/x"},
		"links to links":                   {layers([]entry{l("a", "b"), l("b", "/c/d"), l("c", "./e/"), d("e/d", 0o755)}), []entry{f("a/x")}, "e/d/x"},
		"a relative link and the root":     {layers([]entry{l("usr/local", "../../../var/usrlocal"), d("var/usrlocal", 0o755)}), []entry{d("usr/local", 0o700), f("usr/local/bin/greet")}, "var/usrlocal/bin/greet"},
		"a link to nothing":                {layers([]entry{l("logs", "/mnt/logs")}), []entry{f("logs/x")}, "mnt/logs/x"},
		"a link to nothing, as directory":  {layers([]entry{l("logs", "/mnt/logs")}), []entry{d("logs", 0o755), f("logs/x")}, "logs/ 755 0, logs/x"},
		"the link itself is replaced":      {layers([]entry{l("run", "var/run"), d("var/run", 0o755)}), []entry{l("run", "/tmp")}, ""},
		"a file in place of a directory":   {layers([]entry{f("srv")}), []entry{f("srv/x")}, "srv/ 755 0, srv/x"},
		"modes of directories":             {layers([]entry{d("etc", 0o755), d("tmp", 0o1777)}), []entry{d("etc", 0o700), f("etc/a"), d("tmp", 0o755), f("tmp/b")}, "etc/ 755 0, etc/a, tmp/ 1777 0, tmp/b"},
		"owners of directories":            {layers([]entry{owned(d("home/u", 0o750), 1000)}), []entry{d("home", 0o755), d("home/u", 0o750), f("home/u/x")}, "home/ 755 0, home/u/ 750 1000, home/u/x"},
		"directories that are not named":   {layers([]entry{d("root", 0o700)}), []entry{f("root/.profile"), f("root/x")}, "root/ 700 0, root/.profile, root/x"},
		"plain directories":                {layers([]entry{d("usr", 0o755), d("usr/bin", 0o755)}), []entry{d("usr", 0o755), f("usr/bin/x")}, ""},
		"hard links go along":              {layers([]entry{l("bin", "usr/bin")}), []entry{f("bin/a"), hard("opt/b", "bin/a")}, "usr/bin/a, opt/b = usr/bin/a"},
		"whiteouts go along":               {layers([]entry{l("bin", "usr/bin"), f("usr/bin/sh"), f("usr/bin/x/y")}), []entry{f("bin/.wh.sh"), f("bin/x/.wh..wh..opq")}, "usr/bin/.wh.sh, usr/bin/x/.wh..wh..opq"},
		"whiteouts of nothing":             {layers([]entry{f("file")}), []entry{f("none/.wh.x"), f("file/.wh.x"), f("a")}, "a"},
		"whiteouts of what is made again":  {layers([]entry{d("a", 0o700), f("a/old")}), []entry{f(".wh.a"), f("a/new")}, "a/.wh..wh..opq, a/ 755 0, a/new"},
		"below a set-group-ID directory":   {layers([]entry{owned(d("l", 0o2775), 50), d("l/py", 0o755), f("l/py/x")}), []entry{f("l/py/y")}, "l/ 2775 50, l/py/ 755 0, l/py/y"},
		"below it, and not named":          {layers([]entry{owned(d("l", 0o2775), 50), f("l/py/x")}), []entry{f("l/py/y")}, "l/ 2775 50, l/py/y"},
		"below what was removed":           {layers([]entry{f("opt/app")}, []entry{f("opt/.wh.app")}), []entry{f("opt/app/conf/x")}, "opt/app/ 755 0, opt/app/conf/ 755 0, opt/app/conf/x"},
		"a link to itself, through a link": {layers([]entry{l("bin", "usr/bin"), f("usr/bin/x")}), []entry{l("bin/x", "../usr/bin/x"), f("bin/y")}, "usr/bin/y"},
		"a link of the layer itself":       {layers([]entry{d("usr/lib64", 0o755)}), []entry{l("lib64", "usr/lib64"), f("lib64/x")}, "lib64 -> usr/lib64, usr/lib64/x"},
	} {
		t.Run(name, func(t *testing.T) {
			out, changed, err := placed(t, stackOf(t, test.base), true, test.added)
			if err != nil {
				t.Fatal(err)
			}
			if got := names(out); changed != (test.want != "") || changed && got != test.want {
				t.Errorf("changed: %v, to %s\nwant %s", changed, got, test.want)
			}
		})
	}
}

// TestOwnModes: directories that are there get the attributes of the layer, if it is
// asked for.
func TestOwnModes(t *testing.T) {
	base := stackOf(t, layers([]entry{d("etc", 0o755), d("root", 0o700)}))
	out, changed, err := placed(t, base, false, []entry{owned(d("etc", 0o750), 3), f("root/x")})
	if want := "etc/ 750 3, root/ 700 0, root/x"; err != nil || !changed || names(out) != want {
		t.Errorf("%s, %v; want %s", names(out), err, want)
	}
}

// TestLoops: an entry below links in a circle is refused, with its name and the link's.
func TestLoops(t *testing.T) {
	var chain []entry
	for i := range 60 {
		chain = append(chain, l(fmt.Sprintf("l%d", i), fmt.Sprintf("l%d", i+1)))
	}
	for name, test := range map[string]struct {
		base  []entry
		entry string
	}{
		"itself": {[]entry{l("a", "a")}, "a/x"}, "each other": {[]entry{l("a", "b/c"), l("b", "a")}, "b/x"}, "a long way": {chain, "l0/x"},
	} {
		_, _, err := placed(t, stackOf(t, layers(test.base)), true, []entry{f(test.entry)})
		loop, ok := errors.AsType[*LoopError](err)
		if !ok || loop.Entry != test.entry || loop.Link == "" || !strings.Contains(err.Error(), loop.Link) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, changed, err := placed(t, stackOf(t, layers(chain)), true, []entry{f("l25/x")}); err != nil || !changed {
		t.Errorf("35 links: %v, %v", changed, err)
	}
}

// TestCost: 300,000 entries are placed in seconds, in memory that hardly grows with them.
func TestCost(t *testing.T) {
	var base [][]entry
	for i := range 12 {
		layer := []entry{d("usr", 0o755), d("usr/lib", 0o755), f(fmt.Sprintf("usr/.wh.gone%d", i))}
		for j := range 3000 {
			layer = append(layer, f(fmt.Sprintf("usr/lib/%d/%d", j/100, j+i)))
		}
		base = append(base, layer)
	}
	var added []entry
	for i := range 15_000 {
		added = append(added, f(fmt.Sprintf("usr/lib/%d/%d", i/1000, i)))
	}
	p := NewPlacer(stackOf(t, base))
	x := indexOf(t, added)
	start := time.Now()
	if err := p.Layer(x); err != nil {
		t.Fatal(err)
	}
	for e := range x.All() {
		if _, err := p.Place(e, true); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(start); took > 20*time.Second || p.Bytes() > 1<<20 {
		t.Errorf("it took %v and %d bytes", took, p.Bytes())
	}
	t.Logf("%v, %d bytes", time.Since(start), p.Bytes())
}
