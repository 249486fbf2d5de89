package augment

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/klauspost/compress/zstd"

	"github.com/waveproxy/waveproxy/budget"
)

// frameOf returns a zstd frame of less than 128 KiB with a window of that many bytes.
func frameOf(window uint64, data []byte) []byte {
	h := zstd.Header{WindowSize: window}
	frame, err := h.AppendTo(nil)
	if err != nil {
		panic(err)
	}
	block := len(data)<<3 | 1 // raw, and the last
	return slices.Concat(frame, []byte{byte(block), byte(block >> 8), byte(block >> 16)}, data)
}

// TestWindowsAreCharged: a base layer's windows are charged while it is read, whichever
// frame has them, and ordinary layers cost what they need.
func TestWindowsAreCharged(t *testing.T) {
	plain := tarOf(file{name: "a"}, link("bin", "usr/bin"))
	first, rest := plain[:512], plain[512:]
	for name, test := range map[string]struct {
		data  []byte
		limit int64
		says  string // "" is success
	}{
		"8 MiB":              {frameOf(8<<20, slices.Concat(first, rest)), 9 << 20, ""},
		"8 MiB in 8":         {frameOf(8<<20, slices.Concat(first, rest)), 8 << 20, "limits.memory"},
		"small":              {frameOf(1<<20, slices.Concat(first, rest)), 2 << 20, ""},
		"32 MiB":             {frameOf(32<<20, slices.Concat(first, rest)), 33 << 20, ""},
		"32 MiB in 16":       {frameOf(32<<20, slices.Concat(first, rest)), 16 << 20, "limits.memory"},
		"in the second":      {slices.Concat(frameOf(1<<20, first), frameOf(32<<20, rest)), 16 << 20, "limits.memory"},
		"the largest counts": {slices.Concat(frameOf(1<<20, first), frameOf(32<<20, rest)), 33 << 20, ""},
		"too large":          {frameOf(64<<20, slices.Concat(first, rest)), 33 << 20, "window"},
	} {
		t.Run(name, func(t *testing.T) {
			l := budget.NewLedger(budget.Limits{budget.Memory: {Client: test.limit, All: 256 << 20}})
			links, err := readLinks(budget.With(t.Context(), l.Open("a")), bytes.NewReader(test.data), []string{"bin"})
			if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) || err == nil && links["bin"] != "usr/bin" {
				t.Errorf("%v, %v", links, err)
			}
			if _, ok := errors.AsType[*budget.Exceeded](err); ok != (test.says == "limits.memory") {
				t.Errorf("error %v", err)
			}
			if held := l.Held(budget.Memory); held != 0 {
				t.Errorf("%d bytes are held in the end", held)
			}
		})
	}
}

// TestNoWindowForSilence: while a registry is silent before the first bytes, no window is
// held, and the links in these bytes are found.
func TestNoWindowForSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := budget.NewLedger(budget.Limits{budget.Memory: {Client: 64 << 20, All: 256 << 20}})
		ctx := budget.With(t.Context(), l.Open("a"))
		data := frameOf(32<<20, slices.Concat(tarOf(link("bin", "usr/bin"))[:512], []byte(incompressible(100<<10))))
		data = append(data, frameOf(32<<20, []byte(incompressible(100<<10)))...)
		r, w := io.Pipe()
		ended := make(chan error)
		go func() {
			links, err := readLinks(ctx, r, []string{"bin"})
			if err == nil && links["bin"] != "usr/bin" {
				err = errors.New("no link")
			}
			ended <- err
		}()
		if _, err := w.Write(data[:150<<10]); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if held := l.Held(budget.Memory); held > stagedBytes {
			t.Errorf("%d bytes are held while the registry is silent", held)
		}
		if _, err := w.Write(data[150<<10:]); err != nil {
			t.Fatal(err)
		}
		w.Close()
		if err := <-ended; err != nil || l.Held(budget.Memory) != 0 {
			t.Errorf("%v, %d bytes are held", err, l.Held(budget.Memory))
		}
	})
}
