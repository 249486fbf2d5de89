package layerindex

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/augment/archivetest"
)

func dir(name string) archivetest.File {
	return archivetest.File{Name: name + "/", Type: tar.TypeDir, Mode: 0o755}
}

func link(name, target string) archivetest.File {
	return archivetest.File{Name: name, Type: tar.TypeSymlink, Link: target}
}

func hard(name, target string) archivetest.File {
	return archivetest.File{Name: name, Type: tar.TypeLink, Link: target}
}

func file(name string) archivetest.File { return archivetest.File{Name: name, Text: name} }

// indexOf returns the index of a layer with the files.
func indexOf(t testing.TB, files ...archivetest.File) *Index {
	t.Helper()
	x, err := Read(t.Context(), bytes.NewReader(archivetest.Layer(t, files...)))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// says returns what an index has, in a line for each entry.
func says(x *Index) (lines []string) {
	names := map[Kind]string{Dir: "dir", Link: "link", Other: "other", Whiteout: "whiteout", Opaque: "opaque"}
	for e := range x.All() {
		lines = append(lines, strings.TrimSpace(fmt.Sprint(names[e.Kind], " ", e.Name, " ", e.Target)))
	}
	return lines
}

func want(t *testing.T, x *Index, lines ...string) {
	t.Helper()
	if found := says(x); !slices.Equal(found, lines) {
		t.Errorf("the index has\n%s\nwant\n%s", strings.Join(found, "\n"), strings.Join(lines, "\n"))
	}
}

// TestNames: names are taken as engines take them.
func TestNames(t *testing.T) {
	x := indexOf(t, dir("."), dir("./etc"), file("/etc//passwd"), file("../../out"), file("a/./b/../c"),
		link("bin", "usr/bin"), hard("sh", "./bin"), hard("copy", "/out"),
		file("etc/.wh.shadow"), file(".wh.old"), file("var/.wh..wh..opq"), file(".wh..wh.plnk"), file("var/.wh."), file(".wh..wh.aufs/x"))
	want(t, x, "whiteout etc/shadow", "whiteout old", "opaque var",
		"dir .", "other .wh..wh.aufs/x", "other a/c", "link bin usr/bin", "other copy out", "dir etc", "other etc/passwd", "other out", "link sh usr/bin")
	if e, ok := x.Find("sh"); !ok || e.Kind != Link || e.Target != "usr/bin" {
		t.Errorf("a hard link to a symbolic link is %+v", e)
	}
}

// TestRoot: markers at the root are about everything.
func TestRoot(t *testing.T) {
	x := indexOf(t, file(".wh..wh..opq"), file("a"))
	want(t, x, "opaque .", "other a")
	if !x.Hides("x/y") || x.Hides(".") || !x.HasBelow(".") || x.HasBelow("a") {
		t.Error("the root is opaque, and hides everything below")
	}
	if x := indexOf(t); x.HasBelow(".") || x.Len() != 0 || !x.Simple() || x.Hides("a") {
		t.Error("an empty layer has something")
	}
}

// TestLastCounts: entries that a layer replaces are gone, with everything that was below
// them.
func TestLastCounts(t *testing.T) {
	for name, test := range map[string]struct {
		files []archivetest.File
		lines []string
	}{
		"file in place of a directory":  {[]archivetest.File{dir("a"), file("a/b"), dir("a/c"), file("a")}, []string{"other a"}},
		"and a directory again":         {[]archivetest.File{dir("a"), file("a/b"), file("a"), dir("a"), file("a/c")}, []string{"dir a", "other a/c"}},
		"link, below it what came then": {[]archivetest.File{file("a/b"), link("a", "x"), file("a/c")}, []string{"link a x", "other a/c"}},
		"deep":                          {[]archivetest.File{file("a/b/c/d"), file("a.b"), file("a-b"), file("a"), dir("a")}, []string{"dir a", "other a-b", "other a.b"}},
		"directory twice":               {[]archivetest.File{dir("a"), file("a/b"), dir("a")}, []string{"dir a", "other a/b"}},
		"replaced above":                {[]archivetest.File{dir("a"), dir("a/b"), file("a/b/c"), link("a", "x"), dir("a"), dir("a/b")}, []string{"dir a", "dir a/b"}},
	} {
		t.Run(name, func(t *testing.T) {
			x := indexOf(t, test.files...)
			want(t, x, test.lines...)
			if x.Simple() {
				t.Error("its order matters, but it is simple")
			}
		})
	}
	for name, files := range map[string][]archivetest.File{
		"tree":       {dir("a"), file("a/b"), dir("a-b"), file("a-b/c"), link("z", "a")},
		"no parents": {file("x/y/z"), file("x/y0")},
	} {
		if !indexOf(t, files...).Simple() {
			t.Errorf("%s: is not simple", name)
		}
	}
	for name, files := range map[string][]archivetest.File{
		"whiteout": {file(".wh.a")}, "opaque": {file("a/.wh..wh..opq")}, "below a link": {link("a", "b"), file("a/x/y")}, "twice": {file("a"), file("./a")},
		"a late directory": {file("a/b"), dir("a")}, "a late one above": {dir("a/b"), file("a/b/c"), dir("a")},
	} {
		if indexOf(t, files...).Simple() {
			t.Errorf("%s: is simple", name)
		}
	}
}

// TestAttributes: those of directories are kept, whole.
func TestAttributes(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 3000000, Gid: 7, ModTime: time.Unix(1700000000, 5e8), Format: tar.FormatPAX,
			PAXRecords: map[string]string{"SCHILY.xattr.user.b": "2\xff", "SCHILY.xattr.user.a": "1", "comment": "x"}},
		{Name: "old/", Typeflag: tar.TypeDir, Mode: 0o700, ModTime: time.Unix(-99999999999, 0), Format: tar.FormatPAX},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	x, err := Read(t.Context(), &b)
	if err != nil {
		t.Fatal(err)
	}
	e, _ := x.Find("tmp")
	if !reflect.DeepEqual(e, Entry{Name: "tmp", Kind: Dir, Mode: 0o1777, UID: 3000000, GID: 7, Xattrs: map[string]string{"user.a": "1", "user.b": "2\xff"}, ModTime: 1700000000_500000000}) {
		t.Errorf("%+v", e)
	}
	if e, _ := x.Find("old"); e.Mode != 0o700 || e.Xattrs != nil || e.ModTime > -9e18 {
		t.Errorf("%+v", e)
	}
}

// model is the slow and obvious form of an index.
type model struct {
	at    map[string]Kind
	marks map[string]bool // name and kind
}

func (m *model) add(f archivetest.File) {
	name := strings.TrimSuffix(f.Name, "/")
	base := path.Base(name)
	switch {
	case base == opaqueName:
		m.marks[fmt.Sprint(path.Dir(name), Opaque)] = true
		return
	case strings.HasPrefix(base, whiteoutPrefix):
		m.marks[fmt.Sprint(path.Join(path.Dir(name), base[len(whiteoutPrefix):]), Whiteout)] = true
		return
	}
	kind := map[byte]Kind{tar.TypeDir: Dir, tar.TypeSymlink: Link}[f.Type]
	if kind == 0 {
		kind = Other
	}
	if kind != Dir {
		for below := range m.at {
			if strings.HasPrefix(below, name+"/") {
				delete(m.at, below)
			}
		}
	}
	m.at[name] = kind
}

func (m *model) hides(name string) bool {
	if m.marks[fmt.Sprint(name, Whiteout)] {
		return true
	}
	for name != "." {
		name = path.Dir(name)
		if m.marks[fmt.Sprint(name, Whiteout)] || m.marks[fmt.Sprint(name, Opaque)] || m.at[name] != 0 && m.at[name] != Dir {
			return true
		}
	}
	return false
}

func (m *model) hasBelow(name string) bool {
	for below := range m.at {
		if below != "." && (name == "." || strings.HasPrefix(below, name+"/")) {
			return true
		}
	}
	return false
}

// TestAgainstModel compares answers for random layers with the obvious ones.
func TestAgainstModel(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 12))
	// Bytes on both sides of the slash.
	parts := []string{"a", "a-", "a.b", "b", "a0", "ab", "é", "a\x01"}
	anyName := func() string {
		var names []string
		for range 1 + random.IntN(4) {
			names = append(names, parts[random.IntN(len(parts))])
		}
		return strings.Join(names, "/")
	}
	for round := range 50 {
		m := model{at: map[string]Kind{}, marks: map[string]bool{}}
		var files []archivetest.File
		for range random.IntN(60) {
			name := anyName()
			f := file(name)
			switch random.IntN(6) {
			case 0, 1, 2:
				f = dir(name)
			case 3:
				f = link(name, "x")
			case 4:
				f = file(path.Join(path.Dir(name), whiteoutPrefix+path.Base(name)))
				if random.IntN(3) == 0 {
					f = file(path.Join(path.Dir(name), opaqueName))
				}
			}
			files = append(files, f)
			m.add(f)
		}
		x := indexOf(t, files...)
		decoded, err := Decode(x.Encode())
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range []*Index{x, decoded} {
			for range 200 {
				name := anyName()
				if random.IntN(20) == 0 {
					name = "."
				}
				e, ok := x.Find(name)
				if ok != (m.at[name] != 0) || e.Kind != m.at[name] || x.Hides(name) != m.hides(name) || x.HasBelow(name) != m.hasBelow(name) {
					t.Fatalf("round %d, %q: found %v %v, hides %v, has below %v; want %v, %v, %v\n%+v", round, name,
						e.Kind, ok, x.Hides(name), x.HasBelow(name), m.at[name], m.hides(name), m.hasBelow(name), files)
				}
			}
			if x.Len() != len(m.at)+len(m.marks) {
				t.Fatalf("round %d: %d entries and markers, want %d", round, x.Len(), len(m.at)+len(m.marks))
			}
		}
	}
}

// TestManyRuns: an index is the same whatever the size of the batches it is made in.
func TestManyRuns(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	one, err := newBuilder(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	many, _ := newBuilder(context.Background())
	for i := range 20_000 {
		name := fmt.Sprintf("d%d/e%d/f%d", random.IntN(20), random.IntN(20), random.IntN(50))
		r := row{kind: []Kind{Dir, Dir, Other, Link}[random.IntN(4)], target: "t"}
		if r.kind != Link {
			r.target = ""
		}
		if random.IntN(8) == 0 {
			name = path.Dir(name)
		}
		for _, b := range []*builder{one, many} {
			if err := b.add(name, r, attributes{mode: int64(i % 7)}); err != nil {
				t.Fatal(err)
			}
		}
		if i%97 == 0 {
			if err := many.flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	x, err := one.finish()
	if err != nil {
		t.Fatal(err)
	}
	y, err := many.finish()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(x, y) || x.Len() < 1000 {
		t.Errorf("%d and %d entries", x.Len(), y.Len())
	}
}
