package rootfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/layerindex"
)

// nested returns the path of directories in each other.
func nested(depth int) string { return strings.TrimSuffix(strings.Repeat("a/", depth), "/") }

// TestLookUpsOfDepth: an entry costs as many look-ups as its path has directories, and not the
// square of it, however many layers of the base have markers. Each look-up allocates, so
// allocations count them.
func TestLookUpsOfDepth(t *testing.T) {
	place := func(e entry) func(*Placer) error {
		return func(p *Placer) error { _, err := p.Place(e.indexed(), true); return err }
	}
	for name, test := range map[string]struct {
		upper func(i int, deep string) []entry // of the base
		added func(deep string) []entry
		do    func(deep string) func(*Placer) error
	}{
		"a file below a link":     {func(i int, _ string) []entry { return []entry{f(fmt.Sprintf("z/.wh.%d", i))} }, nil, func(string) func(*Placer) error { return place(f("l/new")) }},
		"markers all the way":     {func(i int, deep string) []entry { return []entry{f(fmt.Sprintf("%s/.wh.%d", deep, i))} }, nil, func(deep string) func(*Placer) error { return place(f(deep + "/new")) }},
		"a whiteout below a link": {func(i int, _ string) []entry { return []entry{f(fmt.Sprintf("z/.wh.%d", i))} }, func(string) []entry { return []entry{d("l", 0o755), f("l/.wh.f")} }, nil},
		"directories made anew":   {func(i int, _ string) []entry { return []entry{f(fmt.Sprintf("z/.wh.%d", i))} }, nil, func(deep string) func(*Placer) error { return place(f("n/" + deep + "/new")) }},
		"a program in a deep place": {func(i int, _ string) []entry { return []entry{f(fmt.Sprintf("z/.wh.%d", i))} }, nil, func(string) func(*Placer) error {
			return func(p *Placer) error { _, err := p.HasFile("l/f"); return err }
		}},
	} {
		cost := func(depth int) float64 {
			deep := nested(depth)
			base := layers([]entry{f(deep + "/f"), l("l", deep)})
			for i := range 20 {
				base = append(base, test.upper(i, deep))
			}
			stack := stackOf(t, base)
			x := indexOf(t, nil)
			if test.added != nil {
				x = indexOf(t, test.added(deep))
			}
			return testing.AllocsPerRun(1, func() {
				p := NewPlacer(stack)
				err := p.Layer(x)
				if err == nil && test.do != nil {
					err = test.do(deep)(p)
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		if half, whole := cost(100), cost(200); whole > 2.5*half {
			t.Errorf("%s: %v allocations for 100 directories, %v for 200", name, half, whole)
		}
	}
}

var errEnough = errors.New("enough")

// TestWorkEnds: whatever a Placer does, it asks again and again whether to go on, and ends with
// the first error.
func TestWorkEnds(t *testing.T) {
	deep := nested(250)
	base := layers([]entry{f(deep + "/f"), l("l", deep)})
	for i := range 16 {
		base = append(base, []entry{f(fmt.Sprintf("%s/.wh.%d", deep, i))})
	}
	var markers, many []entry
	for i := range 5_000 {
		markers = append(markers, f(fmt.Sprintf("d/.wh.%d", i)))
		many = append(many, f(fmt.Sprintf("new/%d/x", i)))
	}
	stack := stackOf(t, base)
	belowLink, whiteouts := indexOf(t, []entry{d("l", 0o755), f("l/.wh.f")}), indexOf(t, markers)
	for name, do := range map[string]func(*Placer) error{
		"a deep path": func(p *Placer) error { _, err := p.Place(f("l/x").indexed(), true); return err },
		"a program":   func(p *Placer) error { _, err := p.HasFile("l/f"); return err },
		"the target of a hard link": func(p *Placer) error {
			_, err := p.Place(hard("x", "l/f").indexed(), true)
			return err
		},
		"the target of a link":      func(p *Placer) error { _, err := p.Place(l("x", "l/f").indexed(), true); return err },
		"a whiteout below a link":   func(p *Placer) error { return p.Layer(belowLink) },
		"whiteouts":                 func(p *Placer) error { return p.Layer(whiteouts) },
		"directories":               func(p *Placer) error { return placeAll(p, many) },
		"whether the order matters": func(p *Placer) error { return watched(t, p, many) },
	} {
		calls := 0
		p := NewPlacer(stack)
		p.During(func() error { calls++; return nil })
		if err := do(p); err != nil || calls < 5 {
			t.Errorf("%s: asked %d times, %v", name, calls, err)
		}
		for _, after := range []int{1, calls / 2, calls} {
			n := 0
			p := NewPlacer(stack)
			p.During(func() error {
				if n++; n == after {
					return errEnough
				}
				return nil
			})
			if err := do(p); !errors.Is(err, errEnough) || n != after {
				t.Errorf("%s, ended after %d: asked %d times, %v", name, after, n, err)
			}
		}
	}
}

func placeAll(p *Placer, entries []entry) error {
	for _, e := range entries {
		if _, err := p.Place(e.indexed(), true); err != nil {
			return err
		}
	}
	return nil
}

// watched has a Placer find out whether the order of entries matters that come by other names.
func watched(t *testing.T, p *Placer, entries []entry) error {
	if _, err := p.Place(l("m", "elsewhere").indexed(), true); err != nil {
		return err
	}
	p.Watch(indexOf(t, entries))
	for i := range entries {
		if _, err := p.Place(d(fmt.Sprintf("m/%d", i), 0o755).indexed(), true); err != nil {
			return err
		}
	}
	_, err := p.OrderMatters()
	return err
}

// TestMarkersAreCharged: what a layer's markers and a base's directories need is in Bytes before it is there, so that a
// step that refuses keeps the rest from being made.
func TestMarkersAreCharged(t *testing.T) {
	const most = 1 << 20
	var whiteouts, opaque []entry
	for i := range 20_000 {
		whiteouts = append(whiteouts, f(fmt.Sprintf("etc/.wh.%s%06x", strings.Repeat("x", 80), i)))
		opaque = append(opaque, f(fmt.Sprintf("%06x/.wh..wh..opq", i)))
	}
	attributes := []tar.Header{{Name: "f", Typeflag: tar.TypeReg}}
	for depth := range 250 {
		attributes = append(attributes, tar.Header{Name: nested(depth+1) + "/", Typeflag: tar.TypeDir, Mode: 0o755, PAXRecords: map[string]string{"SCHILY.xattr.user.x": strings.Repeat("v", 60<<10)}})
	}
	attributed := NewStack(headersIndex(t, attributes))
	for name, do := range map[string]func(*Placer) error{
		"whiteouts": func() func(*Placer) error {
			x := indexOf(t, whiteouts)
			return func(p *Placer) error { return p.Layer(x) }
		}(),
		"opaque markers": func() func(*Placer) error {
			x := indexOf(t, opaque)
			return func(p *Placer) error { return p.Layer(x) }
		}(),
		"extended attributes": func(p *Placer) error { _, err := p.Place(f(nested(250)+"/x").indexed(), true); return err },
	} {
		p := NewPlacer(attributed)
		p.During(func() error {
			if p.Bytes() > most {
				return errEnough
			}
			return nil
		})
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		err := do(p)
		runtime.ReadMemStats(&after)
		// Allocated and not live: garbage counts, too.
		if used := int64(after.TotalAlloc - before.TotalAlloc); !errors.Is(err, errEnough) || used > 4*most {
			t.Errorf("%s: %d bytes allocated, of %d that are allowed, %v", name, used, most, err)
		}
	}
}

func headersIndex(t *testing.T, headers []tar.Header) *layerindex.Index {
	t.Helper()
	var b strings.Builder
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	x, err := layerindex.Read(t.Context(), strings.NewReader(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// TestTooDeep: links lead below 255 directories, as many as the names of layers may have, and no
// further. Modules in modules, 60 deep, are nothing.
func TestTooDeep(t *testing.T) {
	modules := strings.TrimSuffix(strings.Repeat("node_modules/m/", 60), "/")
	base := stackOf(t, layers([]entry{d(nested(200), 0o755), l("l", nested(200)), f(modules + "/f"), l("m", modules)}))
	for name, want := range map[string]bool{"l/x": true, "l/" + strings.Repeat("b/", 55) + "x": true, "l/" + strings.Repeat("b/", 56) + "x": false, "m/x": true} {
		_, err := NewPlacer(base).Place(f(name).indexed(), true)
		if _, deep := errors.AsType[*DepthError](err); deep == want || (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}
