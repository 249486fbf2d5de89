// Package sizedlru is a cache bounded by what its entries cost, in bytes, rather
// than by their number alone: entries that strangers make differ in size by
// thousands.
package sizedlru

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// maxShare is the part of a cache that one entry may take. A larger one is not
// kept, because it would displace the entries of many others.
const maxShare = 16

// Cache forgets the least recently used entries when they cost more than its
// limit together. It starts no goroutine and is safe for concurrent use.
type Cache[K comparable, V any] struct {
	max int64
	ttl time.Duration
	now func() time.Time

	mu   sync.Mutex
	lru  *simplelru.LRU[K, entry[V]]
	cost int64
}

type entry[V any] struct {
	value V
	cost  int64
	until time.Time // zero without a ttl
}

// New returns a Cache of entries that cost at most maxCost bytes together and are
// at most count. An entry is forgotten ttl after it was added; 0 is never.
func New[K comparable, V any](maxCost int64, count int, ttl time.Duration) *Cache[K, V] {
	c := &Cache[K, V]{max: maxCost, ttl: ttl, now: time.Now}
	// It fails for sizes below 1 only. The callback runs with the lock held.
	c.lru, _ = simplelru.NewLRU(count, func(_ K, e entry[V]) { c.cost -= e.cost })
	return c
}

// Add keeps the value and reports whether it did: one that costs more than a
// sixteenth of the cache is not kept. cost is in bytes and includes everything
// that only this entry refers to.
func (c *Cache[K, V]) Add(key K, value V, cost int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lru.Remove(key)
	if cost > c.max/maxShare {
		return false
	}
	e := entry[V]{value: value, cost: cost}
	if c.ttl > 0 {
		e.until = c.now().Add(c.ttl)
	}
	c.cost += cost
	c.lru.Add(key, e)
	for c.cost > c.max {
		c.lru.RemoveOldest()
	}
	return true
}

// Reweigh changes what the entry with this key costs, if there is one, and reports
// whether it is kept.
func (c *Cache[K, V]) Reweigh(key K, cost int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.lru.Peek(key)
	if !ok || cost > c.max/maxShare {
		c.lru.Remove(key)
		return false
	}
	c.cost += cost - e.cost
	e.cost = cost
	c.lru.Add(key, e)
	for c.cost > c.max {
		c.lru.RemoveOldest()
	}
	return true
}

// Get returns the value, which then is the most recently used.
func (c *Cache[K, V]) Get(key K) (V, bool) { return c.find(key, (*simplelru.LRU[K, entry[V]]).Get) }

// Peek returns the value and leaves the order as it is.
func (c *Cache[K, V]) Peek(key K) (V, bool) { return c.find(key, (*simplelru.LRU[K, entry[V]]).Peek) }

func (c *Cache[K, V]) find(key K, get func(*simplelru.LRU[K, entry[V]], K) (entry[V], bool)) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := get(c.lru, key)
	if ok && c.ttl > 0 && !c.now().Before(e.until) {
		c.lru.Remove(key)
		ok = false
	}
	if !ok {
		var none V
		return none, false
	}
	return e.value, true
}

// Contains reports whether the key has a value, and leaves the order as it is.
func (c *Cache[K, V]) Contains(key K) bool {
	_, ok := c.Peek(key)
	return ok
}

// Remove forgets the key.
func (c *Cache[K, V]) Remove(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lru.Remove(key)
}

// Purge forgets everything.
func (c *Cache[K, V]) Purge() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lru.Purge()
}

// Len returns the number of entries.
func (c *Cache[K, V]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lru.Len()
}

// Cost returns what the entries cost together, in bytes.
func (c *Cache[K, V]) Cost() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cost
}
