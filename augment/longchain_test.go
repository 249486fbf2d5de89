package augment

import (
	_ "crypto/sha512" // whose digests are valid
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// ends fails the test if work, which takes milliseconds, takes as long as work that goes
// over the square of a stranger's words.
func ends(t *testing.T, name string, work func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { work(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: no end", name)
	}
}

// TestLongChains: entrypoints and variables as large as a config may have cost their
// length, and not the product of several lengths.
func TestLongChains(t *testing.T) {
	const n = 30_000
	chains := slices.Repeat([]string{entryChain + "=x"}, n)
	words := slices.Repeat([]string{"env"}, n)
	colons := "PATH=" + strings.Repeat(":", 1<<20)
	for name, c := range map[string]struct{ base, added, env []string }{
		"launchers and chains": {append(words, "x"), nil, chains},
		"launchers":            {append(words, "x"), []string{"/opt/w"}, nil},
		"words of a script":    {[]string{"sh", "-c", strings.Repeat("env ", 1<<20) + "x"}, []string{"/opt/w"}, chains},
		"shells of shells":     {append(slices.Repeat([]string{"sh", "-c"}, n), "x"), []string{"w"}, chains},
		"a long PATH":          {slices.Repeat([]string{"/a/w"}, n), []string{"w"}, []string{colons}},
		"a long program":       {slices.Repeat([]string{"/a/b"}, n), []string{"/" + strings.Repeat("a/", 128<<10)}, nil},
		"words of a chain":     {[]string{"x"}, []string{"w"}, []string{entryChain + `=["` + strings.Repeat(`env","`, 1<<20) + `x"]`}},
		"many different ones":  {append(words, "x"), []string{"w"}, append([]string{colons}, chains...)},
	} {
		ends(t, name, func() { newChain(c.base, c.added, c.env, false) })
	}
	if n := len(pathOf([]string{colons})); n > maxDirs {
		t.Errorf("%d directories are searched", n)
	}
	if steps := parseChain(strings.Repeat("x ", maxVariable)); steps != nil {
		t.Errorf("a chain that no program can be given has %d words", len(steps[0].words))
	}
}

// TestLastChains: of the values of the variable only the last ones are looked at, and the
// previous chain is still found among them.
func TestLastChains(t *testing.T) {
	env := append(slices.Repeat([]string{entryChain + "=/old"}, 50), entryChain+"=/below", entryChain+"=/wrapper")
	if value, set := newChain([]string{"/wrapper"}, []string{"/new"}, env, false); !set || !strings.Contains(value, "/below") {
		t.Errorf("the chain is %q", value)
	}
}

// TestManyReferences: annotations are looked through once, however many digests were
// replaced, and a digest is found wherever it stands.
func TestManyReferences(t *testing.T) {
	gone := replaced{}
	for i := range 1 << 16 {
		gone[digest.FromString(fmt.Sprint(i))] = true
	}
	d, long, other := digest.FromString("7"), digest.SHA512.FromString("7"), digest.FromString("other")
	gone[long] = true
	for text, want := range map[string]bool{
		"see repo@" + d.String():                   true,
		d.String() + "," + other.String():          true,
		other.String() + "+" + d.String() + "tail": true,
		"x" + long.String() + "x":                  true,
		"sha256:" + d.String():                     true,
		"repo@" + other.String():                   false,
		d.String()[:70] + " ":                      false,
		d.Encoded():                                false,
		":" + strings.Repeat("sha256:", 3):         false,
		"":                                         false,
	} {
		if gone.in(text) != want {
			t.Errorf("%q: %t", text, !want)
		}
	}
	for _, unit := range []string{"sha256:", ":", d.String()[:70] + "g"} {
		ends(t, unit, func() {
			if gone.in(strings.Repeat(unit, 4<<20/len(unit))) {
				t.Errorf("%q is found", unit)
			}
		})
	}
}
