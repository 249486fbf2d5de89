package unpack

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waveproxy/waveproxy/budget"
)

func as(t *testing.T, l *budget.Ledger, client string) context.Context {
	t.Helper()
	return budget.With(t.Context(), l.Open(client))
}

func refusal(t *testing.T, err error) budget.Exceeded {
	t.Helper()
	e, ok := errors.AsType[*budget.Exceeded](err)
	if !ok {
		t.Fatalf("want a refusal, got %v", err)
	}
	return *e
}

// zeros yields n bytes, each read of which takes a while.
type zeros struct {
	n    int64
	take time.Duration
}

func (z *zeros) Read(p []byte) (int, error) {
	if z.n == 0 {
		return 0, io.EOF
	}
	time.Sleep(z.take)
	n := min(z.n, int64(len(p)))
	z.n -= n
	return int(n), nil
}

// TestRatio: beyond 64 MiB a stream may unpack to 200 times its size, and any stream
// to 64 MiB.
func TestRatio(t *testing.T) {
	for _, test := range []struct {
		packed, unpacked int64
		refused          bool
	}{
		{1, Free, false}, {1, Free + 1<<20, true}, {1 << 20, 200 << 20, false}, {1 << 20, 202 << 20, true}, {0, 1, false},
	} {
		_, err := io.Copy(io.Discard, New(t.Context()).Reader(&zeros{n: test.unpacked}, func() int64 { return test.packed }))
		if errors.Is(err, ErrRatio) != test.refused || (err != nil) != test.refused {
			t.Errorf("%d bytes from %d: %v", test.unpacked, test.packed, err)
		}
	}
	if _, err := io.Copy(io.Discard, New(t.Context()).Reader(&zeros{n: Free + 1<<20}, nil)); err != nil {
		t.Errorf("no ratio: %v", err)
	}
}

// TestCharges: every byte that comes out is charged to its client, in all of its
// requests.
func TestCharges(t *testing.T) {
	l := budget.NewLedger(budget.Limits{budget.Unpacked: {Request: 3 << 20, Client: 4 << 20, All: 100 << 20}})
	first := as(t, l, "a")
	if n, err := io.Copy(io.Discard, New(first).Reader(&zeros{n: 3 << 20}, nil)); err != nil {
		t.Fatalf("%d bytes: %v", n, err)
	}
	if _, err := io.Copy(io.Discard, New(first).Reader(&zeros{n: 1}, nil)); refusal(t, err).Scope != budget.OfRequest {
		t.Errorf("a byte more: %v", err)
	}
	n, err := io.Copy(io.Discard, New(as(t, l, "a")).Reader(&zeros{n: 2 << 20}, nil))
	if e := refusal(t, err); e.Scope != budget.OfClient || e.RetryAfter == 0 || n > 1<<20+charged {
		t.Errorf("another request of the client got %d bytes, then %v", n, err)
	}
	if _, err := io.Copy(io.Discard, New(as(t, l, "b")).Reader(&zeros{n: 3 << 20}, nil)); err != nil {
		t.Errorf("another client: %v", err)
	}
}

// unpackAll unpacks for the client; each read takes a millisecond.
func unpackAll(ctx context.Context, p *pool, reads int64) error {
	turn := newTurn(ctx, p)
	if err := turn.Enter(); err != nil {
		return err
	}
	defer turn.Leave()
	_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, turn.Reader(&zeros{n: reads, take: time.Millisecond}, nil), make([]byte, 1))
	return err
}

// TestTurns: one client unpacks at most half as many archives as there are
// processors, and one with many long ones delays the short one of another by a
// slice or two.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := budget.NewLedger(budget.Limits{})
		p := newPool(4)
		ctx, cancel := context.WithCancel(t.Context())
		var ended sync.WaitGroup
		for _, client := range []string{"a", "b", "c"} {
			for range 20 {
				ended.Go(func() {
					if err := unpackAll(budget.With(ctx, l.Open(client)), p, 1e6); !errors.Is(err, context.Canceled) {
						t.Errorf("a long archive ended with %v", err)
					}
				})
			}
		}
		time.Sleep(time.Second)
		begun := time.Now()
		if err := unpackAll(as(t, l, "d"), p, 10); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > 2*slice {
			t.Errorf("a short archive took %s beside long ones of three clients", took)
		}
		cancel()
		ended.Wait()
	})
}

func TestHalfForOneClient(t *testing.T) {
	for slots, want := range map[int]int32{1: 1, 2: 1, 3: 1, 4: 2, 16: 8} {
		synctest.Test(t, func(t *testing.T) {
			p := newPool(slots)
			var now atomic.Int32
			var ended sync.WaitGroup
			for range 20 {
				ended.Go(func() {
					turn := newTurn(t.Context(), p)
					if err := turn.Enter(); err != nil {
						t.Error(err)
						return
					}
					defer turn.Leave()
					if n := now.Add(1); n > want {
						t.Errorf("%d processors: one client has %d turns, want %d", slots, n, want)
					}
					time.Sleep(time.Second)
					now.Add(-1)
				})
			}
			ended.Wait()
		})
	}
}

// TestPatience: a turn that does not come in time, and the thousand and first
// archive of a client, are refused; a client that leaves waits no longer.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1)
		held := newTurn(t.Context(), p)
		if err := held.Enter(); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		err := newTurn(t.Context(), p).Enter()
		if e := refusal(t, err); e.Scope != budget.OfAll || e.RetryAfter == 0 || time.Since(begun) != patience {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
		ctx, cancel := context.WithCancel(t.Context())
		for range waiting {
			go func() {
				if err := newTurn(ctx, p).Enter(); !errors.Is(err, context.Canceled) {
					t.Errorf("a client that has left got %v", err)
				}
			}()
		}
		synctest.Wait()
		err = newTurn(t.Context(), p).Enter()
		if e := refusal(t, err); e.Scope != budget.OfClient || e.RetryAfter == 0 || !strings.Contains(err.Error(), "unpacked at a time") {
			t.Errorf("one more archive: %v", err)
		}
		cancel()
		held.Leave()
		held.Leave()
	})
}

// TestInside: a stream that yields nothing lets others have their turns.
func TestInside(t *testing.T) {
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
			_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, turn.Inside(&zeros{n: 1e6, take: time.Millisecond}), make([]byte, 1))
			ended <- err
		}()
		begun := time.Now()
		if err := unpackAll(t.Context(), p, 1); err != nil || time.Since(begun) > 2*slice {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// TestOutside: no turn is held while the network is waited for.
func TestOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1)
		turn := newTurn(t.Context(), p)
		r, w := io.Pipe()
		slow := turn.Outside(r)
		if err := turn.Enter(); err != nil {
			t.Fatal(err)
		}
		read := make(chan error)
		go func() {
			_, err := slow.Read(make([]byte, 1))
			if turn.leave == nil {
				t.Error("no turn after the read")
			}
			turn.Leave()
			read <- err
		}()
		synctest.Wait()
		if err := unpackAll(t.Context(), p, 5); err != nil {
			t.Errorf("beside a silent host: %v", err)
		}
		_, _ = w.Write([]byte("x"))
		if err := <-read; err != nil {
			t.Error(err)
		}
	})
}

// TestWaitingIsCharged: an archive that was begun and waits for its next turn is charged,
// and one that ends in its first turn is not.
func TestWaitingIsCharged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1)
		l := budget.NewLedger(budget.Limits{budget.Memory: {Client: 2 * weight}})
		if err := unpackAll(as(t, l, "a"), p, 1); err != nil {
			t.Error(err)
		}
		const clients = 3
		ended := make(chan error, clients)
		for range clients {
			go func() { ended <- unpackAll(as(t, l, "a"), p, 1000) }()
		}
		if e := refusal(t, <-ended); e.Kind != budget.Memory {
			t.Errorf("a third archive beside two that wait: %v", &e)
		}
		if held := l.Held(budget.Memory); held != 2*weight {
			t.Errorf("%d bytes are held by two archives", held)
		}
		for range clients - 1 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if held := l.Held(budget.Memory); held != 0 {
			t.Errorf("%d bytes are held in the end", held)
		}
		few := budget.NewLedger(budget.Limits{budget.Memory: {Client: 1}})
		for range 100 {
			if err := unpackAll(as(t, few, "b"), p, 10); err != nil {
				t.Errorf("an archive that ends in its first turn: %v", err)
			}
		}
	})
}
