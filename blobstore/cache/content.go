package cache

import (
	"cmp"
	"os"
	"sync/atomic"
)

// content is the bytes of one file, under a name or not. The cache's mutex guards
// its fields.
type content struct {
	readers int // that have the file open
	// unnamed is what the file counts in Cache.unnamed: it was evicted, or its fill
	// failed, and readers have it open.
	unnamed int64
	// emptied says that the file has been truncated, so that its readers go on by
	// themselves. It is set before the first byte is missing.
	emptied atomic.Bool
}

// open counts a reader. The caller has locked c.mu.
func (c *Cache) open(k *content) { k.readers++ }

// close counts a reader that has closed the file. The caller has locked c.mu.
func (c *Cache) close(k *content) {
	k.readers--
	if k.readers == 0 {
		c.unnamed -= k.unnamed
		k.unnamed = 0
	}
}

// left is close for a reader of a stored blob.
func (c *Cache) left(k *content) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.close(k)
}

// remove removes the file, which goes on taking size bytes while it has readers. If
// such files would take too much, this one is emptied. No goroutine writes it any
// more. The caller has locked c.mu.
func (c *Cache) remove(k *content, path string, size int64) error {
	var file *os.File
	if k.readers > 0 && c.unnamed+size > c.max/2 {
		file, _ = os.OpenFile(path, os.O_WRONLY, 0) // if it is gone, it still counts
	}
	if file != nil {
		defer file.Close()
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	c.lose(k, file, size)
	return nil
}

// lose counts a file that has no name any more, or empties it if file is not nil. The
// caller has locked c.mu.
func (c *Cache) lose(k *content, file *os.File, size int64) {
	if k.readers == 0 {
		return
	}
	if file != nil {
		k.emptied.Store(true)
		if file.Truncate(0) == nil {
			return
		}
	}
	k.unnamed += size
	c.unnamed += size
}

// room counts bytes of a fill that have arrived, and makes room for them. It evicts
// blobs while more than half of the cache is stored. Then it ends a fill that holds
// more than its share, and only if there is none the fill that asks. A blob that no
// other fill wants room beside may take half of the cache again until it is verified.
func (c *Cache) room(f *fill, n int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if err := c.evict(c.keepable(n)); err != nil {
			return diskError{err}
		}
		yields := c.yielding(f, n)
		if f.ended || yields == f {
			return errNoRoom
		}
		if yields == nil {
			break
		}
		yields.ended = true
		c.filling -= yields.counted
		yields.cancel(errNoRoom)
	}
	f.counted += n
	c.filling += n
	return nil
}

// keepable is how many bytes of stored blobs may stay when fills get n bytes more.
// Fills whose bytes are verified count as stored.
func (c *Cache) keepable(n int64) int64 { return max(c.max-c.filling-n, c.max/2-c.whole, 0) }

// keep counts the fill's bytes as verified.
func (c *Cache) keep(f *fill) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !f.ended {
		f.whole = true
		c.whole += f.counted
	}
}

// holding is what the fills of the same client and of the same registry hold, in
// unverified bytes.
type holding struct{ most, ofClient, own int64 }

// yielding returns the fill that has to end so that f may have n bytes more: the
// largest one of the party that holds most, if that is more than a quarter of the
// cache or twice what f's client holds; else f itself. It returns nil if there is
// room. The caller has locked c.mu.
func (c *Cache) yielding(f *fill, n int64) *fill {
	if min(c.kept, c.keepable(n))+c.filling+n <= c.max {
		return nil
	}
	ofClient, ofRegistry := map[string]int64{f.client: n}, map[string]int64{f.registry: n}
	others := []*fill{}
	for _, g := range c.fills {
		if g.ended || g.whole {
			continue
		}
		ofClient[g.client] += g.counted
		ofRegistry[g.registry] += g.counted
		if g != f && g.counted > 0 {
			others = append(others, g)
		}
	}
	of := func(g *fill, own int64) holding {
		return holding{max(ofClient[g.client], ofRegistry[g.registry]), ofClient[g.client], own}
	}
	heaviest, most, ours := f, of(f, f.counted+n), of(f, f.counted+n)
	for _, g := range others {
		if h := of(g, g.counted); cmp.Or(cmp.Compare(h.most, most.most), cmp.Compare(h.ofClient, most.ofClient), cmp.Compare(h.own, most.own)) > 0 {
			heaviest, most = g, h
		}
	}
	switch {
	case len(others) == 0 && c.filling+n <= c.max:
		return nil
	case most.most > c.max/4 || most.ofClient >= 2*ours.ofClient:
		return heaviest
	}
	return f
}
