package layerindex

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/waveproxy/waveproxy/augment/archivetest"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/internal/unpack"
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
	plain := archivetest.Tar(t, file("a"), link("bin", "usr/bin"))
	first, rest := plain[:512], plain[512:]
	for name, test := range map[string]struct {
		data  []byte
		limit int64
		says  string // "" is success
	}{
		"8 MiB":              {frameOf(8<<20, slices.Concat(first, rest)), 11 << 20, ""},
		"8 MiB in 8":         {frameOf(8<<20, slices.Concat(first, rest)), 8 << 20, "limits.memory"},
		"small":              {frameOf(1<<20, slices.Concat(first, rest)), 4 << 20, ""},
		"32 MiB":             {frameOf(32<<20, slices.Concat(first, rest)), 36 << 20, ""},
		"32 MiB in 16":       {frameOf(32<<20, slices.Concat(first, rest)), 16 << 20, "limits.memory"},
		"in the second":      {slices.Concat(frameOf(1<<20, first), frameOf(32<<20, rest)), 16 << 20, "limits.memory"},
		"the largest counts": {slices.Concat(frameOf(1<<20, first), frameOf(32<<20, rest)), 36 << 20, ""},
		"too large":          {frameOf(256<<20, slices.Concat(first, rest)), 36 << 20, "window"},
	} {
		t.Run(name, func(t *testing.T) {
			l := budget.NewLedger(budget.Limits{budget.Memory: {Client: test.limit, All: 256 << 20}})
			x, err := Read(budget.With(t.Context(), l.Open("a")), bytes.NewReader(test.data))
			if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) || err == nil && !hasLink(x) {
				t.Errorf("%v", err)
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

func hasLink(x *Index) bool {
	e, ok := x.Find("bin")
	return ok && e.Kind == Link && e.Target == "usr/bin"
}

// TestNoWindowForSilence: while a registry is silent before the first bytes, no window is
// held.
func TestNoWindowForSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := budget.NewLedger(budget.Limits{budget.Memory: {Client: 64 << 20, All: 256 << 20}})
		ctx := budget.With(t.Context(), l.Open("a"))
		plain := archivetest.Tar(t, link("bin", "usr/bin"), archivetest.File{Name: "x", Text: strings.Repeat("x", 200<<10)})
		var data []byte
		for chunk := range slices.Chunk(plain, 100<<10) {
			data = append(data, frameOf(32<<20, chunk)...)
		}
		r, w := io.Pipe()
		ended := make(chan error)
		go func() {
			x, err := Read(ctx, r)
			if err == nil && !hasLink(x) {
				err = errors.New("no link")
			}
			ended <- err
		}()
		if _, err := w.Write(data[:150<<10]); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if held := l.Held(budget.Memory); held > 4<<20 {
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

// TestSilenceHoldsNoTurn: a layer that does not come holds no processor.
func TestSilenceHoldsNoTurn(t *testing.T) {
	r, w := io.Pipe()
	ended := make(chan error)
	for range 100 {
		go func() {
			begun := bytes.NewReader(archivetest.Gzip(t, archivetest.Tar(t, file("x")))[:20]) // so that it is being unpacked
			_, err := Read(t.Context(), io.MultiReader(begun, r))
			ended <- err
		}()
	}
	time.Sleep(100 * time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	turn := unpack.New(ctx)
	if err := turn.Enter(); err != nil {
		t.Errorf("beside silent registries: %v", err)
	}
	turn.Leave()
	w.CloseWithError(errors.New("broken"))
	for range 100 {
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "broken") {
			t.Error(err)
		}
	}
}
