package sizedlru

import (
	"sync"
	"testing"
	"time"
)

func TestCost(t *testing.T) {
	c := New[int, string](160, 100, 0)
	for i := range 20 {
		if !c.Add(i, "x", 10) {
			t.Fatalf("entry %d is not kept", i)
		}
		c.Get(0)
	}
	if c.Len() != 16 || c.Cost() != 160 {
		t.Errorf("%d entries cost %d, want 16 and 160", c.Len(), c.Cost())
	}
	if _, ok := c.Get(0); !ok {
		t.Error("the entry that was used all the time is gone")
	}
	if c.Contains(1) {
		t.Error("the least recently used entry is still there")
	}
	c.Add(0, "y", 4)
	if v, _ := c.Peek(0); v != "y" || c.Cost() != 154 {
		t.Errorf("replaced: %q, cost %d", v, c.Cost())
	}
	c.Remove(0)
	c.Remove(0)
	if c.Cost() != 150 {
		t.Errorf("removed: cost %d", c.Cost())
	}
	c.Purge()
	if c.Len() != 0 || c.Cost() != 0 {
		t.Errorf("purged: %d entries cost %d", c.Len(), c.Cost())
	}
}

// TestLargeEntry: one entry never displaces those of many others.
func TestLargeEntry(t *testing.T) {
	c := New[string, int](1600, 100, 0)
	for _, key := range []string{"a", "b"} {
		c.Add(key, 1, 100)
	}
	if c.Add("large", 1, 101) || c.Contains("large") || c.Len() != 2 {
		t.Error("an entry of more than its share is kept")
	}
	if c.Add("a", 2, 101); c.Contains("a") {
		t.Error("the old value stays when the new one is too large")
	}
}

func TestCount(t *testing.T) {
	c := New[int, int](1000, 3, 0)
	for i := range 5 {
		c.Add(i, i, 1)
	}
	if c.Len() != 3 || c.Cost() != 3 {
		t.Errorf("%d entries cost %d, want 3 and 3", c.Len(), c.Cost())
	}
}

func TestTTL(t *testing.T) {
	c := New[int, int](1000, 3, time.Minute)
	now := time.Unix(1e9, 0)
	c.now = func() time.Time { return now }
	c.Add(1, 1, 1)
	now = now.Add(time.Minute - 1)
	if _, ok := c.Get(1); !ok {
		t.Error("forgotten too early")
	}
	now = now.Add(1)
	if _, ok := c.Get(1); ok || c.Len() != 0 {
		t.Error("remembered too long")
	}
}

func TestConcurrent(t *testing.T) {
	c := New[int, int](1<<10, 50, 0)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 1000 {
				c.Add(i*j%100, j, int64(j%64))
				c.Get(j % 100)
				c.Remove(j % 7)
			}
		})
	}
	wg.Wait()
	c.Purge()
	if c.Cost() != 0 {
		t.Errorf("an empty cache costs %d", c.Cost())
	}
}

// TestReweigh: an entry that grows makes others go, and goes itself when it is more
// than its share.
func TestReweigh(t *testing.T) {
	c := New[int, string](160, 100, 0)
	for i := range 16 {
		c.Add(i, "x", 9)
	}
	c.Reweigh(3, 10)
	if c.Cost() != 15*9+10 || !c.Reweigh(3, 10) {
		t.Errorf("the cache costs %d", c.Cost())
	}
	for i := range 16 {
		c.Add(i, "x", 10)
	}
	c.Add(16, "x", 1)
	if c.Contains(0) || c.Cost() != 151 {
		t.Errorf("the cache costs %d", c.Cost())
	}
	c.Reweigh(16, 10)
	if !c.Reweigh(1, 9) || c.Cost() != 159 {
		t.Errorf("the cache costs %d", c.Cost())
	}
	if c.Reweigh(5, 11) || c.Contains(5) || c.Reweigh(99, 1) || c.Cost() != 149 {
		t.Errorf("an entry over its share: the cache costs %d", c.Cost())
	}
}
