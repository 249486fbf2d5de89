package augment

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestStrangeVariants: a variant that a request or an image makes up costs no more than
// one that exists, and its machine runs what the newest one runs.
func TestStrangeVariants(t *testing.T) {
	const most = 32 // v9.9 of arm64 has most
	for _, c := range []struct{ platform, runs string }{
		{"linux/amd64/v10000000", "linux/amd64/v4"},
		{"linux/amd64/v9999999999", "linux/amd64"},
		{"linux/amd64/v99999999999999999999999999", "linux/386"},
		{"linux/amd64/2147483647", "linux/amd64/v3"},
		{"linux/arm/v9999999999", "linux/arm/v7"},
		{"linux/arm/v2000000", "linux/arm/v5"},
		{"linux/arm64/v9.2000000000", "linux/arm64/v9.2000000000"},
		{"linux/arm64/v2000000000.5", "linux/arm/v6"},
		{"linux/riscv64/v99999999999", "linux/riscv64/v99999999999"},
	} {
		p, err := ParsePlatform(c.platform)
		if err != nil {
			t.Fatal(err)
		}
		have, err := ParsePlatform(c.runs)
		if err != nil {
			t.Fatal(err)
		}
		e := enginesFor([]ocispec.Platform{p})[0]
		if len(e.runs) > most || !e.takes(have) {
			t.Errorf("%s: %d machines, %.200v; takes %s: %t", c.platform, len(e.runs), e.runs, c.runs, e.takes(have))
		}
	}
}

// TestPlatformsOfLayersAreReadOnce: what the platforms of the request and of the layers
// stand for is found out once, and not for each entry of an index.
func TestPlatformsOfLayersAreReadOnce(t *testing.T) {
	var asked []ocispec.Platform
	for range maxPlatforms {
		asked = append(asked, ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v9.5"})
	}
	w := &walk{engines: enginesFor(asked)}
	for i := range maxChildren {
		w.Recipe.Layers = append(w.Recipe.Layers, Layer{Platform: fmt.Sprintf("linux/arch%d", i%3)})
	}
	w.bindings = bindingsOf(w.Recipe.Layers)
	if len(w.bindings) != 3 {
		t.Errorf("%d platforms, want 3", len(w.bindings))
	}
	entries := make([]part, maxChildren)
	for i := range entries {
		entries[i].Platform = &ocispec.Platform{OS: "linux", Architecture: fmt.Sprint("arch", i)}
	}
	// Names and lists of the results, and no work for each pair.
	if n := testing.AllocsPerRun(1, func() { w.have = nil; w.choose(entries) }); n > 8*maxChildren {
		t.Errorf("%d entries, %d platforms, %d layers: %.0f allocations", len(entries), len(w.engines), len(w.Recipe.Layers), n)
	}
	if fit := w.fitting(*entries[1].Platform); len(fit) != maxChildren/3 {
		t.Errorf("%d layers fit, want %d", len(fit), maxChildren/3)
	}
}

// TestManyDollars: reading and expanding a value takes memory once for each reference, and
// not the whole text again for each dollar.
func TestManyDollars(t *testing.T) {
	const n = 30_000
	for name, value := range map[string]string{
		"dollars":              strings.Repeat("$$", n),
		"dollars in a list":    strings.Repeat("$$:", n),
		"elements that vanish": strings.Repeat("long/", n/5) + strings.Repeat(":${A}", n/5),
	} {
		entries := []string{"P=" + value}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := checkExtended(entries); err != nil {
			t.Fatal(err)
		}
		if _, err := extendEnv([]string{"A="}, entries, false); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 8<<20 {
			t.Errorf("%s: %d bytes were allocated for a value of %d", name, took, len(value))
		}
	}
	if err := checkExtended([]string{"A=1", "B=" + strings.Repeat("${A}", maxExtended/4)}); err == nil {
		t.Error("a value that no grant can have was read")
	}
}

// TestCopiesAreBounded: what stands around an inner index is copied into each of its
// entries only as long as one document has room for all copies.
func TestCopiesAreBounded(t *testing.T) {
	long := strings.Repeat("x", 100<<10)
	m := newMemory()
	plain := m.image("amd64", "")
	same := func(n int, more ...string) (entries []string) {
		for range n {
			entries = append(entries, descriptor(plain, more...))
		}
		return entries
	}
	annotated := `"annotations":{"a":"` + long + `"}`
	var several, nested, keys []string
	for i := range 10 {
		several = append(several, descriptor(m.index("", same(20+i, platform("amd64"))...), annotated))
		nested = append(nested, descriptor(m.index("", descriptor(m.index("", same(10+i, platform("amd64"))...), annotated))))
	}
	for i := range 20_000 {
		keys = append(keys, fmt.Sprintf(`"%05d":""`, i))
	}
	m.index("annotations", descriptor(m.index("", same(60, platform("amd64"))...), annotated))
	m.index("several", several...)
	m.index("nested", nested...)
	plain = m.image("amd64", `,"variant":"`+long+`"`)
	m.index("platform", descriptor(m.index("", same(60)...)))
	plain = m.image("amd64", "")
	m.index("keys", descriptor(m.index("", same(60, platform("amd64"))...), `"annotations":{`+strings.Join(keys, ",")+`}`))
	m.index("few", descriptor(m.index("", same(5, platform("amd64"))...), annotated))
	for _, tag := range []string{"annotations", "several", "nested", "platform", "keys", "few"} {
		var count atomic.Int64
		_, err := NewAugmenter(127).Apply(t.Context(), m, Request{
			Name: "base:" + tag, Reference: tag, Recipe: Recipe{Env: []string{"A=b"}}, Archives: m,
			Made: func(_ context.Context, bytes int64) (func(), error) {
				count.Add(bytes)
				return func() { count.Add(-bytes) }, nil
			},
		})
		made := count.Load()
		if tag == "few" {
			if err != nil || made < 5*100<<10 || made > 8*100<<10 {
				t.Errorf("few: %v, and %d bytes were made", err, made)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), "the entries of inner indexes would have") || made > maxObject {
			t.Errorf("%s: %v, and %d bytes were made", tag, err, made)
		}
	}
}

// TestNothingIsMadeWithoutMemory: a document is charged before it is made, and refused
// before that if it is too large.
func TestNothingIsMadeWithoutMemory(t *testing.T) {
	full := errors.New("full")
	for name, c := range map[string]struct {
		env  int
		want string
	}{"no memory": {1, "full"}, "too large": {maxObject, "the augmented document is"}, "barely too large": {maxObject - 100, "the augmented document is"}} {
		m := newMemory()
		m.image("amd64", "", "x")
		asked := 0
		_, err := NewAugmenter(127).Apply(t.Context(), m, Request{
			Name: "base:x", Reference: "x", Recipe: Recipe{Env: []string{"A=" + strings.Repeat("x", c.env)}}, Archives: m,
			Made: func(context.Context, int64) (func(), error) { asked++; return nil, full },
		})
		if err == nil || !strings.Contains(err.Error(), c.want) || asked > 1 || (asked == 1) != errors.Is(err, full) {
			t.Errorf("%s: %v after %d questions", name, err, asked)
		}
	}
}

// TestSizeIsExact: what is charged for members is what they are.
func TestSizeIsExact(t *testing.T) {
	for _, text := range []string{`{}`, `{"a":1}`, `{"é\n\"":[1, 2],"b":{"c":null}}`} {
		m, err := parseMembers([]byte(text))
		if err != nil || m.size() != len(m.encode()) {
			t.Errorf("%s: %d bytes are said, %d made, %v", text, m.size(), len(m.encode()), err)
		}
	}
}
