package ratelimit

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestRateText(t *testing.T) {
	for text, want := range map[string]Rate{
		"0": {}, "600/m": {600, time.Minute}, "1/s": {1, time.Second}, "100/h": {100, time.Hour}, "5/d": {5, 24 * time.Hour},
	} {
		var r Rate
		if err := r.UnmarshalText([]byte(text)); err != nil || r != want {
			t.Errorf("%q is %v (%v), want %v", text, r, err, want)
		}
		if r.String() != text {
			t.Errorf("%q is written as %q", text, r)
		}
	}
	for _, text := range []string{"", "m", "/m", "0/m", "-1/m", "1", "1/w", "1.5/m", "1/m/s"} {
		if err := new(Rate).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken for a rate", text)
		}
	}
}

type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

func limiter(t *testing.T, text string) (*Limiter, *clock) {
	t.Helper()
	var r Rate
	if err := r.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	c := &clock{time.Unix(1e9, 0)}
	return newLimiter(r, c.now), c
}

func TestTake(t *testing.T) {
	l, c := limiter(t, "60/m")
	for i := range 60 {
		if wait := l.Take("a"); wait != 0 {
			t.Fatalf("event %d has to wait %s", i, wait)
		}
	}
	for range 3 { // refusals cost nothing
		if wait := l.Take("a"); wait != time.Second {
			t.Fatalf("wait %s, want 1s", wait)
		}
	}
	if wait := l.Wait("a"); wait != time.Second {
		t.Errorf("Wait is %s, want 1s", wait)
	}
	if wait := l.Take("b"); wait != 0 {
		t.Errorf("one client has to wait %s for another", wait)
	}
	c.Time = c.Add(time.Second)
	if wait := l.Take("a"); wait != 0 {
		t.Errorf("has to wait %s after having waited", wait)
	}
	if wait := l.Take("a"); wait == 0 {
		t.Error("a second's wait granted two events")
	}
}

func TestGiveBack(t *testing.T) {
	l, c := limiter(t, "2/h")
	for range 5 {
		if l.Take("a") != 0 {
			t.Fatal("an event that was given back counts")
		}
		c.Time = c.Add(time.Millisecond)
		l.GiveBack("a")
	}
	l.GiveBack("a") // more than was taken
	l.Take("a")
	l.Take("a")
	if l.Take("a") == 0 {
		t.Error("giving back too much raises the limit")
	}
	l.GiveBack("a")
	if l.Take("a") != 0 || l.Take("a") == 0 {
		t.Error("one event given back did not make room for one")
	}
	if l.Take("b") != 0 {
		t.Error("another client is affected")
	}
	(*Limiter)(nil).GiveBack("a")
}

func TestTakeOnce(t *testing.T) {
	l, c := limiter(t, "2/h")
	for range 5 {
		if wait := l.TakeOnce("a", "image 1"); wait != 0 {
			t.Fatalf("the same event again has to wait %s", wait)
		}
	}
	if l.TakeOnce("a", "image 2") != 0 || l.TakeOnce("a", "image 3") == 0 {
		t.Error("two events were not what counted")
	}
	if l.TakeOnce("a", "image 1") != 0 {
		t.Error("an event that was granted is refused when it goes on")
	}
	if l.TakeOnce("b", "image 3") != 0 {
		t.Error("a client's refusal counts for another")
	}
	c.Time = c.Add(oneEvent)
	if l.TakeOnce("a", "image 1") == 0 {
		t.Error("an old event still counts as granted")
	}
}

func TestNoLimit(t *testing.T) {
	l := New(Rate{})
	if l != nil || l.Take("a") != 0 || l.TakeOnce("a", "b") != 0 || l.Wait("a") != 0 {
		t.Error("the zero rate limits")
	}
}

func TestConcurrentTakes(t *testing.T) {
	l, _ := limiter(t, "100/h")
	var granted atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if l.Take("a") == 0 {
					granted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if granted.Load() != 100 {
		t.Errorf("%d events granted, want 100", granted.Load())
	}
}

func TestMemoryIsBounded(t *testing.T) {
	l, _ := limiter(t, "1/h")
	for i := range maxClients + 100 {
		l.TakeOnce(fmt.Sprint(i), "image")
	}
	if l.buckets.Len() != maxClients || l.done.Len() != maxClients {
		t.Errorf("%d clients and %d events are kept, want %d", l.buckets.Len(), l.done.Len(), maxClients)
	}
}

func TestNetworkKey(t *testing.T) {
	for text, want := range map[string]string{
		"2001:db8:1:2:3::4": "2001:db8:1::/48", "2001:db8:1:ffff::": "2001:db8:1::/48", "fe80::1%eth0": "fe80::/48",
		"192.0.2.1": "", "::ffff:192.0.2.1": "",
	} {
		if got := NetworkKey(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s is in %q, want %q", text, got, want)
		}
	}
	if got := NetworkKey(netip.Addr{}); got != "" {
		t.Errorf("no address is in %q", got)
	}
}

func TestAddressKey(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := AddressKey(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s counts as %s, want %s", text, got, want)
		}
	}
}
