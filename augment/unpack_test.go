package augment

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/internal/unpack"
)

// tarOfZeros is a tar of files: one of zeros, and one that cannot be compressed.
func tarOfZeros(zeros, noise int) []byte {
	random := make([]byte, noise)
	_, _ = rand.NewChaCha8([32]byte{}).Read(random)
	return tarOf(file{name: "zeros", text: string(make([]byte, zeros))}, file{name: "noise", text: string(random)})
}

// TestInspectRatio: what unpacks to more than 200 times what came is refused beyond
// 64 MiB, in every compression, however often it was packed. Layers with files of
// zeros among others are taken, whatever their order.
func TestInspectRatio(t *testing.T) {
	const size = 65 << 20
	if unpack.Free != 64<<20 {
		t.Errorf("%d bytes are free", unpack.Free)
	}
	many, sparse, small := tarOfZeros(size, 0), tarOfZeros(size, 512<<10), tarOfZeros(8<<20, 0)
	sparseGzip := gzipOf(sparse)
	for name, test := range map[string]struct {
		data    []byte
		packed  int64 // 0 is what data has
		refused bool
	}{
		"zeros":                 {gzipOf(many), 0, true},
		"zeros, zstd":           {zstdOf(t, many), 0, true},
		"zeros packed twice":    {many, 66 << 10, true},
		"zeros with others":     {sparseGzip, 0, false},
		"the same, packed more": {sparseGzip, 300 << 10, true},
		"few zeros":             {gzipOf(small), 0, false},
		"few, zstd":             {zstdOf(t, small), 0, false},
		"not compressed":        {many, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			limits := DefaultLimits
			if limits.Packed = test.packed; limits.Packed == 0 {
				limits.Packed = int64(len(test.data))
			}
			_, err := Inspect(t.Context(), bytes.NewReader(test.data), limits)
			refusal, ok := errors.AsType[*Error](err)
			if ok != test.refused || (err != nil) != test.refused || ok && !strings.Contains(refusal.Error(), "200 times") {
				t.Errorf("error %v", err)
			}
			if limits.Packed = 0; test.packed == 0 && !strings.Contains(name, "others") { // there, the noise comes last
				if _, err := Inspect(t.Context(), bytes.NewReader(test.data), limits); (err != nil) != test.refused {
					t.Errorf("its size is not known before: %v", err)
				}
			}
		})
	}
}

// TestUnpackingIsCharged: every way to unpack charges the client, and says the
// limit instead of blaming the archive.
func TestUnpackingIsCharged(t *testing.T) {
	plain := tarOf(file{name: "bin/x", text: strings.Repeat("x", 2<<20)})
	m := newMemory()
	layers := []Layer{m.layer(plain), m.layer(tarOf(file{name: "b", text: "b"}))}
	zstd := zstdOf(t, plain)
	found, err := Inspect(t.Context(), bytes.NewReader(zstd), DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	for name, unpacks := range map[string]func(context.Context) error{
		"Inspect": func(ctx context.Context) error {
			_, err := Inspect(ctx, bytes.NewReader(gzipOf(plain)), DefaultLimits)
			return err
		},
		"Keep": func(ctx context.Context) error {
			_, err := Keep(ctx, newMemory(), bytes.NewReader(zstd), found)
			return err
		},
		"repack": func(ctx context.Context) error {
			_, err := repackOver(ctx, m, layers)
			return err
		},
		"landing": func(ctx context.Context) error {
			p, err := placedOver(ctx, m, []Layer{m.layer(tarOf(file{name: "bin/.wh.y"}, file{name: "bin/x", text: strings.Repeat("x", 2<<20)}))}, bases["debian"])
			if err == nil {
				p.end()
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := budget.NewLedger(budget.Limits{budget.Unpacked: {Client: 1 << 20}})
			err := unpacks(budget.With(t.Context(), l.Open("a")))
			if e, ok := errors.AsType[*budget.Exceeded](err); !ok || e.Kind != budget.Unpacked || e.Scope != budget.OfClient {
				t.Errorf("2 MiB, where 1 may be unpacked: %v", err)
			}
			if _, ok := errors.AsType[*Error](err); ok {
				t.Errorf("the archive is blamed: %v", err)
			}
			if err := unpacks(budget.With(t.Context(), budget.NewLedger(budget.Limits{}).Open("a"))); err != nil {
				t.Errorf("without limits: %v", err)
			}
		})
	}
}

// TestTurnsAndWindows: archives of all kinds at once never wait for each other in a
// circle.
func TestTurnsAndWindows(t *testing.T) {
	plain := tarOf(file{name: "x", text: strings.Repeat("x", 1<<20)})
	kinds := [][]byte{gzipOf(plain), zstdOf(t, plain), plain}
	l := budget.NewLedger(budget.Limits{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			ctx := budget.With(ctx, l.Open(string(rune('a'+i%4))))
			if _, err := Inspect(ctx, bytes.NewReader(kinds[i%3]), DefaultLimits); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// verifying is an Archives that takes all turns of the client before it reads what it
// is given, as a store does that verifies what it has.
type verifying struct{ *memory }

func (v verifying) Put(ctx context.Context, d digest.Digest, r io.Reader) error {
	synctest.Wait() // for a producer
	for range max(1, runtime.GOMAXPROCS(0)/2) {
		turn := unpack.New(ctx)
		if err := turn.Enter(); err != nil {
			return err
		}
		defer turn.Leave()
	}
	return nil
}

// TestPutWaitsForNoProducer: while the archives verify what they have, the archive that
// is being stored is not unpacked, so that neither waits for the other's turn.
func TestPutWaitsForNoProducer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		l := m.layer(archive(file{name: "bin/x", text: incompressible(1 << 20)}))
		if _, err := repackOver(t.Context(), verifying{m}, []Layer{l}, []file{link("bin", "usr/bin")}); err != nil {
			t.Error(err)
		}
	})
}
