package budget

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

func refusal(t *testing.T, err error) *Exceeded {
	t.Helper()
	e, ok := errors.AsType[*Exceeded](err)
	if !ok {
		t.Fatalf("want a refusal, got %v", err)
	}
	return e
}

// TestHold: what is held counts for the request, the client and all, and is free
// again when it is released.
func TestHold(t *testing.T) {
	l := NewLedger(Limits{Memory: {Request: 40, Client: 50, All: 100}})
	first := l.Open("a")
	release, err := first.Hold(Memory, 40)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Hold(Memory, 1); refusal(t, err).Scope != OfRequest {
		t.Errorf("a request over its limit: %v", err)
	}
	if _, err := l.Open("a").Hold(Memory, 11); refusal(t, err).Scope != OfClient {
		t.Errorf("a client over its limit: %v", err)
	}
	for range 2 {
		release()
	}
	if l.Held(Memory) != 0 || l.all.held[Memory] != 0 {
		t.Errorf("%d are held after all was released", l.Held(Memory))
	}
	if _, err := first.Hold(Memory, 40); err != nil {
		t.Errorf("after the release: %v", err)
	}
}

// TestShares: clients that hold much never refuse the first request of another.
func TestShares(t *testing.T) {
	l := NewLedger(Limits{Memory: {Request: 25, Client: 25, All: 100}})
	for _, client := range []string{"a", "b", "c"} {
		for {
			if _, err := l.Open(client).Hold(Memory, 1); err != nil {
				break
			}
		}
	}
	if _, err := l.Open("d").Hold(Memory, 25); err != nil {
		t.Errorf("three greedy clients refuse the first request of a fourth: %v", err)
	}
	if _, err := l.Open("e").Hold(Memory, 1); refusal(t, err).Scope != OfAll {
		t.Errorf("all is held, and one more is told %v", err)
	}
	l = NewLedger(Limits{Memory: {All: 100}})
	for range 80 {
		_, _ = l.Open("a").Hold(Memory, 1)
	}
	if held := l.Held(Memory); held != 75 {
		t.Errorf("a client with many requests holds %d of 100, want 75", held)
	}
	piecemeal := l.Open("b")
	for range 25 {
		if _, err := piecemeal.Hold(Memory, 1); err != nil {
			t.Fatalf("the only request of a client: %v", err)
		}
	}
}

// TestSpend: what is spent is refused above the limits and forgiven evenly.
func TestSpend(t *testing.T) {
	l := NewLedger(Limits{Files: {Request: 10, Client: 60, All: 100}})
	now := time.Unix(1e9, 0)
	l.now = func() time.Time { return now }
	if err := l.Open("a").Spend(Files, 11); refusal(t, err).Scope != OfRequest {
		t.Errorf("a request over its limit: %v", err)
	}
	for range 6 {
		if err := l.Open("a").Spend(Files, 10); err != nil {
			t.Fatal(err)
		}
	}
	if e := refusal(t, l.Open("a").Spend(Files, 5)); e.Scope != OfClient || e.RetryAfter != 5*time.Second {
		t.Errorf("a client over its limit: %+v", e)
	}
	now = now.Add(5 * time.Second)
	if err := l.Open("a").Spend(Files, 5); err != nil {
		t.Errorf("after the wait: %v", err)
	}
	for range 4 {
		if err := l.Open("b").Spend(Files, 10); err != nil {
			t.Fatal(err)
		}
	}
	if e := refusal(t, l.Open("c").Spend(Files, 10)); e.Scope != OfAll || e.RetryAfter <= 0 {
		t.Errorf("all over the limit: %+v", e)
	}
}

// TestGroups: the clients of one group have half of all together, and what they do
// refuses no other client.
func TestGroups(t *testing.T) {
	l := NewLedger(Limits{Memory: {Client: 25, All: 100}, Files: {Client: 25, All: 100}})
	held, spent := int64(0), int64(0)
	var last error
	var releases []func()
	for i := range 100 {
		b := l.OpenIn(fmt.Sprint("address ", i), "network")
		release, err := b.Hold(Memory, 5)
		if last = err; err == nil {
			held += 5
			releases = append(releases, release)
		}
		if b.Spend(Files, 5) == nil {
			spent += 5
		}
	}
	if e := refusal(t, last); held != 50 || spent != 50 || e.Scope != OfClient || e.Limit != 50 {
		t.Errorf("a group holds %d and spent %d of 100; it is told %+v", held, spent, e)
	}
	if _, err := l.OpenIn("other", "other network").Hold(Memory, 25); err != nil {
		t.Error(err)
	}
	for _, release := range releases {
		release()
	}
	b := l.Open("ann's address")
	b.SetClient("ann here", "ann")
	if _, err := b.Hold(Memory, 25); err != nil {
		t.Error(err)
	}
	elsewhere := l.OpenIn("ann elsewhere", "ann")
	if _, err := elsewhere.Hold(Memory, 25); err != nil {
		t.Errorf("another address of the same user: %v", err)
	}
	if _, err := l.OpenIn("ann anywhere", "ann").Hold(Memory, 1); refusal(t, err).Scope != OfClient {
		t.Errorf("a user as a whole: %v", err)
	}
}

// TestForgotten: clients that hold and owe nothing cost no memory.
func TestForgotten(t *testing.T) {
	l := NewLedger(Limits{Files: {Client: 10, All: 1 << 20}, Memory: {All: 1 << 30}})
	now := time.Unix(1e9, 0)
	l.now = func() time.Time { return now }
	for i := range 1000 {
		b := l.OpenIn(fmt.Sprint(i), fmt.Sprint(i%10))
		if err := b.Spend(Files, 1); err != nil {
			t.Fatal(err)
		}
		release, err := b.Hold(Memory, 1)
		if err != nil {
			t.Fatal(err)
		}
		release()
	}
	_, _ = l.Open("held").Hold(Memory, 1)
	now = now.Add(2 * window)
	_ = l.Open("new").Spend(Files, 1)
	if len(l.accounts) != 2 || len(l.groups) != 0 {
		t.Errorf("%d accounts are kept, want 2, and %d groups", len(l.accounts), len(l.groups))
	}
}

// TestNone: without a budget nothing is counted.
func TestNone(t *testing.T) {
	for _, b := range []*Budget{From(context.Background()), {}} {
		if release, err := b.Hold(Memory, 1<<60); err != nil {
			t.Error(err)
		} else {
			release()
		}
		if err := b.Spend(Files, 1<<60); err != nil {
			t.Error(err)
		}
	}
	b := NewLedger(Limits{}).Open("a")
	if From(With(t.Context(), b)) != b || b.Client() != "a" {
		t.Error("the context has lost its budget")
	}
	b.SetClient("user ann", "")
	if b.Client() != "user ann" {
		t.Error("the client keeps its old name")
	}
}

// TestConcurrent: the sum is exact whatever happens at once.
func TestConcurrent(t *testing.T) {
	l := NewLedger(Limits{Memory: {Client: 8, All: 20}})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range 200 {
				b := l.Open(fmt.Sprint(i % 4))
				if release, err := b.Hold(Memory, 1+int64(i%3)); err == nil {
					if l.Held(Memory) > 20 {
						t.Error("more is held than all may hold")
					}
					release()
				}
			}
		})
	}
	wg.Wait()
	if l.Held(Memory) != 0 {
		t.Errorf("%d are held in the end", l.Held(Memory))
	}
}

// TestHoldFor: what is held for a context is free when it ends.
func TestHoldFor(t *testing.T) {
	l := NewLedger(Limits{Memory: {Client: 10, All: 100}})
	ctx, end := context.WithCancel(With(t.Context(), l.Open("a")))
	if err := HoldFor(ctx, Memory, 8); err != nil || l.Held(Memory) != 8 {
		t.Fatalf("%d are held, %v", l.Held(Memory), err)
	}
	if err := HoldFor(ctx, Memory, 3); refusal(t, err).Scope != OfClient {
		t.Errorf("over the limit: %v", err)
	}
	end()
	for start := time.Now(); l.Held(Memory) != 0; time.Sleep(time.Millisecond) {
		if time.Since(start) > 10*time.Second {
			t.Fatalf("%d are held after the end", l.Held(Memory))
		}
	}
	if err := HoldFor(t.Context(), Memory, 1<<60); err != nil {
		t.Error(err)
	}
}

// TestPrivateRefusals: a refusal that another client might not have got says so, so
// that callers who shared the work try for themselves.
func TestPrivateRefusals(t *testing.T) {
	l := NewLedger(Limits{Memory: {Client: 90, All: 100}})
	if _, err := l.Open("a").Hold(Memory, 70); err != nil {
		t.Fatal(err)
	}
	_, err := l.Open("a").Hold(Memory, 10)
	if e := refusal(t, err); e.Scope != OfAll || !e.Private() {
		t.Errorf("the last quarter, refused to a client with other requests: %+v", e)
	}
	_, err = l.Open("b").Hold(Memory, 31)
	if e := refusal(t, err); e.Private() {
		t.Errorf("all is held: %+v", e)
	}
}

// TestNewcomers: a pull is several requests at a time. A client that holds a small part
// of its share may use the last quarter of all for each of them.
func TestNewcomers(t *testing.T) {
	for name, test := range map[string]struct {
		kind  Kind
		limit Limit
		n     int64
		first int // requests of a newcomer that pass
	}{
		"streams":   {Streams, Limit{Request: 1, Client: 512, All: 2048}, 1, 16},
		"memory":    {Memory, Limit{Request: 64 << 20, Client: 64 << 20, All: 256 << 20}, 96 << 10, 22},
		"downloads": {Fetches, Limit{Request: 64, Client: 64, All: 256}, 1, 2},
	} {
		var limits Limits
		limits[test.kind] = test.limit
		l := NewLedger(limits)
		take := func(client string) (n int) {
			for {
				if _, err := l.Open(client).Hold(test.kind, test.n); err != nil {
					return n
				}
				n++
			}
		}
		for _, greedy := range []string{"a", "b", "c"} {
			take(greedy)
		}
		for _, newcomer := range []string{"d", "e"} {
			if n := take(newcomer); n < test.first || n > test.first+1 {
				t.Errorf("%s: %d requests of a client pass beside three greedy ones, want %d", name, n, test.first)
			}
		}
	}
}

// TestEnter: what a request costs by itself is given back to the client that it was
// charged to, whatever the request is called since.
func TestEnter(t *testing.T) {
	l := NewLedger(Limits{Memory: {Client: 10, All: 100}})
	b := l.OpenIn("address", "network")
	if err := b.Enter(8); err != nil || l.Held(Memory) != 8 {
		t.Fatalf("%d are held, %v", l.Held(Memory), err)
	}
	if err := l.Open("address").Enter(3); refusal(t, err).Scope != OfClient {
		t.Errorf("over the limit: %v", err)
	}
	b.SetClient("user ann", "ann")
	for range 2 {
		b.Leave()
	}
	if l.Held(Memory) != 0 || l.accounts["address"].held[Memory] != 0 || l.groups["network"].held[Memory] != 0 {
		t.Error("held in the end")
	}
	if err := (*Budget)(nil).Enter(1); err != nil {
		t.Error(err)
	}
	(*Budget)(nil).Leave()
}
