package augment

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/layerindex"
	"github.com/waveproxy/waveproxy/rootfs"
)

// counting counts how often archives are opened.
type counting struct {
	Archives
	opened int
}

func (c *counting) Open(ctx context.Context, d digest.Digest) (io.ReadSeekCloser, error) {
	c.opened++
	return c.Archives.Open(ctx, d)
}

// TestPassesOfManyLayers: however many of the layers have entries whose order matters, the
// layers are gone through three times, and not once more for each.
func TestPassesOfManyLayers(t *testing.T) {
	const n = 30
	m := newMemory()
	var layers []Layer
	base := []file{}
	for i := range n {
		data := tarOf(file{name: fmt.Sprintf("l%d/x/", i), kind: tar.TypeDir, mode: 0o700}, file{name: fmt.Sprintf("d%d/x/", i), kind: tar.TypeDir, mode: 0o711}, file{name: fmt.Sprintf("d%d/x/f", i)})
		d := digest.FromBytes(data)
		m.archives[d] = data
		layers = append(layers, Layer{Digest: d})
		base = append(base, file{name: fmt.Sprintf("l%d", i), kind: tar.TypeSymlink, link: fmt.Sprintf("d%d", i)})
	}
	c := &counting{Archives: m}
	p, err := placedOver(t.Context(), c, layers, base)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	// The indexes are read once, too.
	if passes := float64(c.opened-n) / n; passes > 3 || passes == 0 {
		t.Errorf("%d archives were opened for %d layers", c.opened-n, n)
	}
}

// TestPlacingEnds: markers and entries are charged to the request's memory while they are
// placed, and placing them ends with the context.
func TestPlacingEnds(t *testing.T) {
	var markers, dirs []file
	for i := range 30_000 {
		markers = append(markers, file{name: fmt.Sprintf("etc/.wh.%s%d", strings.Repeat("x", 60), i)})
		dirs = append(dirs, file{name: fmt.Sprintf("new%d/", i), kind: tar.TypeDir, mode: 0o755})
	}
	for name, files := range map[string][]file{"whiteouts": markers, "directories": dirs} {
		m := newMemory()
		data := tarOf(files...)
		layer := Layer{Digest: digest.FromBytes(data)}
		m.archives[layer.Digest] = data
		ledger := budget.NewLedger(budget.Limits{budget.Memory: {Request: 3 << 20, Client: 3 << 20, All: 64 << 20}})
		below, err := layerindex.Read(t.Context(), bytes.NewReader(tarOf(file{name: "etc/a"})))
		if err != nil {
			t.Fatal(err)
		}
		stack := rootfs.NewStack(below)
		full, err := placedOver(t.Context(), m, []Layer{layer}, []file{{name: "etc/a"}})
		if err != nil {
			t.Fatal(err)
		}
		held := full.placer.Bytes()
		p := placeOn(budget.With(t.Context(), ledger.Open("a")), m, stack, full.layers, full.indexes)
		_, _, err = p.learn(t.Context())
		if _, ok := errors.AsType[*budget.Exceeded](err); !ok || p.placer.Bytes() > 4<<20 || held < 5<<20 {
			t.Errorf("%s: %v, with %d bytes of %d", name, err, p.placer.Bytes(), held)
		}
		p.end()
		ctx, cancel := context.WithCancel(t.Context())
		p = placeOn(t.Context(), m, stack, full.layers, full.indexes)
		cancel()
		if err := p.begin(ctx, 0); files[0].kind == 0 && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := p.learnIndex(ctx, 0, digest.SHA256.Hash()); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		p.end()
		full.end()
		if ledger.Held(budget.Memory) != 0 {
			t.Errorf("%s: %d bytes are held in the end", name, ledger.Held(budget.Memory))
		}
	}
}
