package unpack

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waveproxy/waveproxy/budget"
)

// nothingRead tells that no bytes of the archive were read: everything is a hole.
func nothingRead() int64 { return 0 }

// TestHolesAreCharged: the bytes of holes are charged and bounded, and other bytes, which
// the decompressor's reader charges, are not charged again.
func TestHolesAreCharged(t *testing.T) {
	l := budget.NewLedger(budget.Limits{budget.Unpacked: {Client: 3 << 20, All: 100 << 20}})
	plain := &zeros{n: 4 << 20}
	if _, err := io.Copy(io.Discard, New(as(t, l, "a")).Files(plain, func() int64 { return 4<<20 - plain.n }, nil)); err != nil {
		t.Errorf("without holes: %v", err)
	}
	n, err := io.Copy(io.Discard, New(as(t, l, "a")).Files(&zeros{n: 6 << 20}, nothingRead, nil))
	if e := refusal(t, err); e.Kind != budget.Unpacked || n > 3<<20+charged {
		t.Errorf("%d bytes of holes, where 3 MiB may be unpacked: %v", n, err)
	}
	left := int64(1 << 20)
	files := New(t.Context()).Files(&zeros{n: 1<<20 + 1}, nothingRead, &left)
	if n, err := io.Copy(io.Discard, files); !errors.Is(err, ErrHoles) || n > 1<<20 {
		t.Errorf("%d bytes, where holes may have 1 MiB: %v", n, err)
	}
	left = 1 << 20
	if _, err := io.Copy(io.Discard, New(t.Context()).Files(&zeros{n: 1 << 20}, nothingRead, &left)); err != nil || left != 0 {
		t.Errorf("%d left, %v", left, err)
	}
}

// TestHolesTakeTurns: while holes are filled, others have their turns, and the end of the
// context ends it.
func TestHolesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1)
		ctx, cancel := context.WithCancel(t.Context())
		turn := newTurn(ctx, p)
		if err := turn.Enter(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error)
		go func() {
			defer turn.Leave()
			_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, turn.Files(&zeros{n: 1e6, take: time.Millisecond}, nothingRead, nil), make([]byte, 1))
			ended <- err
		}()
		begun := time.Now()
		if err := unpackAll(t.Context(), p, 1); err != nil || time.Since(begun) > 2*slice {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) || time.Since(begun) > 4*slice {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
	})
}
