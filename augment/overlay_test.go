package augment

import (
	"archive/tar"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMerge(t *testing.T) {
	for name, test := range map[string]struct {
		layers [][]file
		want   map[string]string
		err    string
	}{
		"later wins": {[][]file{{{name: "a", text: "1"}, {name: "b", text: "1"}}, {{name: "a", text: "2"}}},
			map[string]string{"a": "2", "b": "1"}, ""},
		"twice in one": {[][]file{{{name: "a", text: "1"}, {name: "a", text: "2"}}, {{name: "b"}}},
			map[string]string{"a": "2", "b": ""}, ""},
		"whiteout stays for the base": {[][]file{{{name: "d/a"}, {name: "d/b"}}, {{name: "d/.wh.a"}}},
			map[string]string{"d/.wh.a": "", "d/b": ""}, ""},
		"whiteout of a directory": {[][]file{{dir("d/"), {name: "d/a"}, {name: "dx"}}, {{name: ".wh.d"}}},
			map[string]string{".wh.d": "", "dx": ""}, ""},
		"whiteout, then a file": {[][]file{{{name: ".wh.a"}}, {{name: "a", text: "2"}}},
			map[string]string{"a": "2"}, ""},
		"whiteout, then a directory": {[][]file{{{name: ".wh.a"}}, {dir("a/")}}, nil, "made again"},
		"opaque": {[][]file{{dir("d/"), {name: "d/a"}, {name: "e"}}, {dir("d/"), {name: "d/.wh..wh..opq"}, {name: "d/b"}}},
			map[string]string{"d/": "dir", "d/.wh..wh..opq": "", "d/b": "", "e": ""}, ""},
		"file over directory": {[][]file{{dir("d/"), {name: "d/a"}}, {{name: "d", text: "file"}}},
			map[string]string{"d": "file"}, ""},
		"directory over file": {[][]file{{{name: "d", text: "file"}}, {{name: "d/a", text: "a"}}},
			map[string]string{"d/a": "a"}, ""},
		"directory over link": {[][]file{{link("d", "e")}, {dir("d/"), {name: "d/a"}}},
			map[string]string{"d/": "dir", "d/a": ""}, ""},
		"hard link within":                  {[][]file{{{name: "x"}}, {{name: "a", text: "a"}, {name: "b", kind: tar.TypeLink, link: "a"}}}, map[string]string{"x": "", "a": "a", "b": "= a"}, ""},
		"hard link across":                  {[][]file{{{name: "a"}}, {{name: "b", kind: tar.TypeLink, link: "a"}}}, nil, "hard link"},
		"hard link, then its file replaced": {[][]file{{{name: "a", text: "1"}, {name: "b", kind: tar.TypeLink, link: "a"}}, {{name: "a", text: "2"}}}, nil, "hard link"},
		"hard link, then its file removed":  {[][]file{{{name: "a", text: "1"}, {name: "b", kind: tar.TypeLink, link: "a"}}, {{name: ".wh.a"}}}, nil, "hard link"},
		"hard link, then its file again":    {[][]file{{{name: "a", text: "1"}, {name: "b", kind: tar.TypeLink, link: "a"}, {name: "a", text: "2"}}, {{name: "x"}}}, nil, "hard link"},
		"hard link, then both replaced": {[][]file{{{name: "d/a", text: "1"}, {name: "d/b", kind: tar.TypeLink, link: "d/a"}}, {{name: ".wh.d"}}},
			map[string]string{".wh.d": ""}, ""},
		"whiteout, then below it":            {[][]file{{{name: ".wh.a"}}, {{name: "a/b/c"}}}, nil, `"a" is removed by one layer and made again`},
		"whiteout, then an opaque directory": {[][]file{{{name: ".wh.a"}}, {{name: "a/.wh..wh..opq"}, dir("a/")}}, nil, `"a" is removed by one layer and made again`},
		"deep whiteout, then below it":       {[][]file{{{name: "x/.wh.a"}}, {{name: "y"}}, {dir("x/a/b/")}}, nil, `"x/a" is removed by one layer and made again`},
		"whiteout that is gone again":        {[][]file{{{name: "d/.wh.a"}}, {{name: "d/.wh..wh..opq"}}, {dir("d/a/")}}, map[string]string{"d/.wh..wh..opq": "", "d/a/": "dir"}, ""},
		"opaque root": {[][]file{{{name: "a"}, dir("d/"), {name: "d/a"}}, {{name: ".wh..wh..opq"}, {name: "b"}}},
			map[string]string{".wh..wh..opq": "", "b": ""}, ""},
		"removed, then added below": {[][]file{{dir("d/"), {name: "d/a"}}, {{name: "d/.wh..wh..opq"}, {name: "d/b"}}, {{name: "d/c"}, {name: "d/a/x"}}},
			map[string]string{"d/": "dir", "d/.wh..wh..opq": "", "d/b": "", "d/c": "", "d/a/x": ""}, ""},
		"global headers go away": {[][]file{{{name: "g", kind: tar.TypeXGlobalHeader, pax: map[string]string{"comment": "x"}}, {name: "a"}}, {{name: "b"}}}, map[string]string{"a": "", "b": ""}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			var layers []Layer
			for _, files := range test.layers {
				layers = append(layers, m.layer(archive(files...)))
			}
			got, err := repackOver(t.Context(), m, layers)
			if test.err != "" {
				if _, ok := errors.AsType[*Error](err); !ok || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want a refusal with %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, m.unpacked(t, got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestRepackCost places so many entries that comparing each with every other
// would take minutes.
func TestRepackCost(t *testing.T) {
	o := newOverlay(t.Context())
	for layer, format := range []string{"%x/a", "%x"} {
		for i := range 100_000 {
			h := &tar.Header{Name: fmt.Sprintf(format, i), Typeflag: tar.TypeReg}
			if err := o.place(h, position{layer, i}); err != nil {
				t.Fatal(err)
			}
		}
	}
	n := 0
	for layer, format := range []string{"%x/a", "%x"} {
		for i := range 100_000 {
			if o.visible(fmt.Sprintf(format, i), position{layer, i}) {
				n++
			}
		}
	}
	if n != 100_000 {
		t.Errorf("%d entries count", n)
	}
	o.names = maxNames - 10
	refused(t, o.place(&tar.Header{Name: "x", Typeflag: tar.TypeReg}, position{2, 0}), "names")
}
