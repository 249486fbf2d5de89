package augment

import (
	"archive/tar"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSpelledNames: however an archive spells its names, they are relative to the root, and
// the layer becomes the same one over a base with links.
func TestSpelledNames(t *testing.T) {
	m := newMemory()
	base := []file{dir("srv/"), dir("srv/opt/"), link("opt", "/srv/opt"), link("bin", "usr/bin"), dir("usr/"), dir("usr/bin/"), {name: "srv/opt/old"}}
	spelled := func(prefix, slash, end string) Layer {
		name := func(s string) string { return prefix + strings.ReplaceAll(s, "/", slash) }
		return m.layer(archive(
			dir(name("opt/sub")+end+"/"), file{name: name("opt/sub/tool"), text: "tool"},
			file{name: name("bin/again") + end, kind: tar.TypeLink, link: name("opt/sub/tool")},
			link(name("bin/soft"), "/opt/sub/tool"), file{name: name("opt/.wh.old")},
		))
	}
	want := map[string]string{
		"srv/opt/sub/": "dir", "srv/opt/sub/tool": "tool", "usr/bin/again": "= srv/opt/sub/tool", "usr/bin/soft": "-> /opt/sub/tool", "srv/opt/.wh.old": "",
	}
	plain, err := repackOver(t.Context(), m, []Layer{spelled("", "/", "")}, base)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, m.unpacked(t, plain)); diff != "" {
		t.Fatalf("plain names (-want +got):\n%s", diff)
	}
	for name, spell := range map[string][3]string{
		"a slash": {"/", "/", ""}, "slashes": {"///", "//", ""}, "a dot": {"./", "/", ""}, "a dot below the root": {"/./", "/", ""},
		"dots everywhere": {"././", "/./", "/."}, "slashes at the end": {"/", "/", "//"}, "a thousand dots": {strings.Repeat("./", 1000), "/", ""},
	} {
		l := spelled(spell[0], spell[1], spell[2])
		got, err := repackOver(t.Context(), m, []Layer{l}, base)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(want, m.unpacked(t, got)); diff != "" || got.Digest != plain.Digest {
			t.Errorf("%s: layer %s, of plain names %s (-want +got):\n%s", name, got.Digest, plain.Digest, diff)
		}
		got, err = repackOver(t.Context(), m, []Layer{l, spelled("", "/", "")}) // nothing is looked up
		if files := m.unpacked(t, got); err != nil || len(files) != len(want) || files["bin/again"] != "= opt/sub/tool" {
			t.Errorf("%s, merged with plain names: %v, %v", name, files, err)
		}
	}
}

// TestSpelledNamesStay: a layer that lands where its names say stays byte for byte, because
// engines take the names as they are.
func TestSpelledNamesStay(t *testing.T) {
	m := newMemory()
	m.image("amd64", "", "base")
	for _, files := range [][]file{
		{{name: "/app", text: "1"}},
		{dir("/"), dir("//opt//"), {name: "/opt/./x", text: "2"}, {name: "/opt/y", kind: tar.TypeLink, link: "/opt/x"}},
		{dir("./"), {name: "./srv/.wh..wh..opq"}, link("/srv/l", "x")},
	} {
		l := m.layer(archive(files...))
		img, err := NewAugmenter(125).Apply(t.Context(), m, Request{Name: "x", Reference: "base", Recipe: Recipe{Layers: []Layer{l}}, Archives: m})
		if err != nil || len(img.Layers) != 1 || img.Layers[0].Digest != l.Digest {
			t.Errorf("%s: %+v, %v", files[0].name, img, err)
		}
	}
}
