package containerconfig

import (
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/front"
)

// TestInlineTogether: the layers of one request have one bound.
func TestInlineTogether(t *testing.T) {
	var c calls
	taker := &Taker{Layers: &c, MaxInline: 12}
	for i, location := range []string{gzipLocation(t, "first"), "data:c2Vjb25k", gzipLocation(t, "x"), "data:eA=="} {
		_, err := taker.Take(t.Context(), "", Layer{Location: location})
		if over := i == 3; (err != nil) != over || over && front.ProblemOf(err).Status != http.StatusRequestEntityTooLarge {
			t.Errorf("layer %d of 12 bytes in all: %v", i, err)
		}
	}
}

// TestInlineStreams: a location costs no memory, whatever it unpacks to, and reading
// that ends early gives the turn to unpack back.
func TestInlineStreams(t *testing.T) {
	location := gzipLocation(t, strings.Repeat("\x00", 30<<20))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r, packed, err := Inline(t.Context(), location)
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, r)
	runtime.ReadMemStats(&after)
	if n != 30<<20 || err != nil || packed < 1000 || packed > int64(len(location)) {
		t.Errorf("%d bytes, packed to %d: %v", n, packed, err)
	}
	if cost := after.TotalAlloc - before.TotalAlloc; cost > 1<<20 {
		t.Errorf("%d bytes were allocated", cost)
	}
	for range 2 * runtime.GOMAXPROCS(0) {
		r, _, err := Inline(t.Context(), location)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Read(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestInlineBudget: what a location unpacks to is charged.
func TestInlineBudget(t *testing.T) {
	ledger := budget.NewLedger(budget.Limits{budget.Unpacked: {Request: 1 << 20}})
	r, _, err := Inline(budget.With(t.Context(), ledger.Open("a")), gzipLocation(t, strings.Repeat("x", 2<<20)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err == nil || !strings.Contains(err.Error(), "limits.unpacked") {
		t.Errorf("two megabytes of one: %v", err)
	}
}
