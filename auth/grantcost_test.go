package auth

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
)

// TestGrantCost: a grant costs in memory what it says.
func TestGrantCost(t *testing.T) {
	d := digest.FromString("x")
	plain := Grant{Image: "docker.io/library/app", Tag: "1", Base: d, Root: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: d, Size: 1}}
	for name, change := range map[string]func(g *Grant){
		"plain":   func(*Grant) {},
		"texts":   func(g *Grant) { g.Recipe.Env = []string{"A=" + strings.Repeat("x", 200<<10)} },
		"many":    func(g *Grant) { g.Recipe.Cmd = strings.Split(strings.Repeat("x,", 50_000), ",") },
		"objects": func(g *Grant) { g.Objects = digests(1000) },
		"layers": func(g *Grant) {
			for i := range 500 {
				g.Recipe.Layers = append(g.Recipe.Layers, augment.Layer{Digest: d, DiffID: d, Location: fmt.Sprint("https://example.com/", i), Via: []string{"https://a.example.com", "https://b"}})
			}
			g.Injected = digests(500)
		},
	} {
		g := plain
		change(&g)
		text, err := json.Marshal(g)
		if err != nil {
			t.Fatal(err)
		}
		const n = 20
		var grants []*Grant
		before := heap()
		for range n {
			g := new(Grant)
			if err := json.Unmarshal(text, g); err != nil {
				t.Fatal(err)
			}
			grants = append(grants, g)
		}
		used, said := (heap()-before)/n, grants[0].Cost()
		if used > said || said > 3*used+4<<10 {
			t.Errorf("%s: a grant of %d bytes of JSON takes %d bytes and says %d", name, len(text), used, said)
		}
		runtime.KeepAlive(grants)
	}
}

// TestGrantsMemory: the grants of many tokens take bounded memory.
func TestGrantsMemory(t *testing.T) {
	tokens, err := NewTokens(TokensOptions{Keys: []Key{testKey(t, 1)}, Records: newMemory()})
	if err != nil {
		t.Fatal(err)
	}
	var minted []Token
	for i := range 120 { // of which 80 have room
		g := Grant{Image: "docker.io/library/app", Base: digest.FromString("x"), Recipe: augment.Recipe{Env: []string{fmt.Sprint("A=", i, strings.Repeat("x", 200<<10))}}}
		token, _, err := tokens.Mint(t.Context(), g, 0)
		if err != nil {
			t.Fatal(err)
		}
		minted = append(minted, token)
	}
	before := heap()
	for _, token := range minted {
		if _, err := tokens.Open(t.Context(), token); err != nil {
			t.Fatal(err)
		}
	}
	if used := heap() - before; used > grantsCost+2<<20 {
		t.Errorf("%d MiB of grants are in memory", used>>20)
	}
	if n := tokens.grants.Len(); n < 30 {
		t.Errorf("%d grants are in memory", n)
	}
}

func digests(n int) []digest.Digest {
	var all []digest.Digest
	for i := range n {
		all = append(all, digest.FromString(fmt.Sprint(i)))
	}
	return all
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
