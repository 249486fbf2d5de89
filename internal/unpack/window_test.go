package unpack

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"

	"github.com/waveproxy/waveproxy/budget"
)

// incompressible returns n bytes that no compression makes shorter.
func incompressible(n int) string {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b)
	return string(b)
}

// TestWindowsFollow: every frame of a stream is found, whatever its blocks, and
// however the bytes come.
func TestWindowsFollow(t *testing.T) {
	var stream []byte
	var windows []uint64
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 60 {
		window := uint64(1) << (10 + i%14)
		z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(int(window)), zstd.WithEncoderCRC(i%2 == 0), zstd.WithSingleSegment(i%5 == 0), zstd.WithEncoderLevel(zstd.EncoderLevel(1+i%4)))
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Repeat("x", random.IntN(1<<18)) + incompressible(random.IntN(1<<16)) + strings.Repeat("some text ", random.IntN(1<<14))
		data := z.EncodeAll([]byte(text), nil)
		var h zstd.Header
		if err := h.Decode(data); err != nil {
			t.Fatal(err)
		}
		if h.SingleSegment {
			h.WindowSize = h.FrameContentSize
		}
		windows = append(windows, h.WindowSize)
		stream = append(stream, data...)
		if i%7 == 0 {
			skipped, err := (&zstd.Header{Skippable: true, SkippableSize: 5}).AppendTo(nil)
			if err != nil {
				t.Fatal(err)
			}
			stream = append(stream, append(skipped, "skip!"...)...)
		}
	}
	for name, r := range map[string]io.Reader{"large": bytes.NewReader(stream), "bytewise": iotest.OneByteReader(bytes.NewReader(stream))} {
		l := budget.NewLedger(budget.Limits{budget.Memory: {All: 256 << 20}})
		ctx := budget.With(t.Context(), l.Open("a"))
		h := New(ctx).Windows(r, 1<<40)
		if n, err := io.Copy(io.Discard, h); err != nil || n != int64(len(stream)) || h.inFrame || h.skip != 0 || len(h.head) != 0 {
			t.Errorf("%s: %d of %d bytes, %v, ended at %+v", name, n, len(stream), err, h)
		}
		if want := int64(slices.Max(windows)) + windowCost; l.Held(budget.Memory) != want {
			t.Errorf("%s: %d bytes are held, want %d", name, l.Held(budget.Memory), want)
		}
		h.Release()
		if l.Held(budget.Memory) != 0 {
			t.Errorf("%s: %d bytes are held in the end", name, l.Held(budget.Memory))
		}
	}
	h := New(t.Context()).Windows(strings.NewReader("neither a frame nor skipped"), 1)
	if _, err := io.Copy(io.Discard, h); !errors.Is(err, zstd.ErrMagicMismatch) {
		t.Errorf("no frame: %v", err)
	}
}
