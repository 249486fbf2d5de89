package rootfs

import (
	"archive/tar"
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/layerindex"
)

// TestFind: names lead where a program in the container would come, through links of any
// layer, and to the layer whose file counts.
func TestFind(t *testing.T) {
	layer := func(entries ...tar.Header) *layerindex.Index {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range entries {
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		x, err := layerindex.Read(t.Context(), &b)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	to := func(name, target string) tar.Header {
		return tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeSymlink}
	}
	file := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg} }
	s := NewStack(
		layer(file("a/f"), file("a/g"), file("b/x/y"), to("up", "../../a/f"), to("loop", "loop2"), to("loop2", "/loop"), to("deep", "b/x/../x/y"), file("gone/f")),
		layer(to("abs", "/a/./g"), to("chain", "abs"), to("dangling", "a/none"), to("through", "a/f/z"), to("root", "/"), file("gone/.wh.f"), to("dir", "b")),
		layer(file("a/g"), file("a/new"), file(".wh.b"), to("empty", "a/")),
	)
	for name, want := range map[string]struct {
		full  string
		kind  Kind
		layer int
	}{
		"a/f": {"a/f", Other, 0}, "a/g": {"a/g", Other, 2}, "a/new": {"a/new", Other, 2}, "up": {"a/f", Other, 0}, "abs": {"a/g", Other, 2}, "chain": {"a/g", Other, 2},
		"root/root/a/f": {"a/f", Other, 0}, "loop": {"loop2", Absent, 0}, "dangling": {"a/none", Absent, 0}, "through": {"a/f", Absent, 0}, "a/f/z": {"a/f", Absent, 0},
		"gone/f": {"gone/f", Absent, 0}, "deep": {"b", Absent, 0}, "dir": {"b", Absent, 0}, "a": {"a", Dir, 0}, "root": {".", Dir, 0}, ".": {".", Dir, 0}, "empty": {"a", Dir, 0}, "none/x": {"none", Absent, 0},
	} {
		full, n, layer := s.Find(name)
		if n.Kind != want.kind || layer != want.layer || want.kind != Absent && full != want.full || name != "loop" && full != want.full {
			t.Errorf("%s is %q, %v, in layer %d; want %+v", name, full, n.Kind, layer, want)
		}
	}
	zigzag := strings.Repeat("a/../", maxSteps)
	long := NewStack(layer(file("a/f"), to("short", strings.Repeat("a/../", 20)+"a/f"), to("zigzag", zigzag+"a/f")), layer(to("more", "zigzag"), file(strings.Repeat("d/", maxDepth)+"f")))
	for name, want := range map[string]Kind{"short": Other, "zigzag": Absent, "more": Absent, strings.Repeat("d/", maxDepth) + "f": Absent, strings.Repeat("d/", maxDepth-1) + "d": Dir} {
		if _, n, _ := long.Find(name); n.Kind != want {
			t.Errorf("%.20s is %v, want %v", name, n.Kind, want)
		}
	}
	if got := slices.Sorted(s.Ending(0, "/f")); !slices.Equal(got, []string{"a/f", "gone/f"}) {
		t.Errorf("ending in /f: %q", got)
	}
}
