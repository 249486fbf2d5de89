package cache

import (
	"fmt"
	"time"
)

// waits are how long fills are waited for.
type waits struct {
	// idle is how long a fill goes on without readers: a client that lost its
	// connection comes back. One that has half of its bytes then gets rest more.
	idle, rest time.Duration
	// Within period at least minimum bytes must come, or the fill ends.
	period  time.Duration
	minimum int64
}

// defaultWaits let fills come as slowly as 16 KiB/s.
var defaultWaits = waits{idle: 10 * time.Second, rest: time.Minute, period: 30 * time.Second, minimum: 480 << 10}

// Fills that run at a time cost two file descriptors and a connection each. Beyond
// these numbers blobs are streamed.
const (
	maxFills           = 256
	maxFillsOfRegistry = 128
	maxFillsOfClient   = 64
)

// mayBegin bounds the running fills in all, of a registry and of a client.
func (c *Cache) mayBegin(r Reader) error {
	ofRegistry, ofClient := 0, 0
	for _, f := range c.fills {
		if f.registry == r.Registry {
			ofRegistry++
		}
		if f.client == r.Client {
			ofClient++
		}
	}
	if len(c.fills) >= maxFills || ofRegistry >= maxFillsOfRegistry || ofClient >= maxFillsOfClient {
		return fmt.Errorf("%d fills run, %d from this registry, %d for this client", len(c.fills), ofRegistry, ofClient)
	}
	return nil
}

// join counts a reader. The caller has locked c.mu.
func (c *Cache) join(f *fill) {
	c.open(f.content)
	if f.idle != nil {
		f.idle.Stop()
	}
}

// leave counts a reader that has closed its Blob. A fill that has no reader left
// ends after a while.
func (c *Cache) leave(f *fill) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.close(f.content)
	c.orphaned(f)
}

// orphaned starts the wait for a reader if the fill has none. The caller has locked
// c.mu.
func (c *Cache) orphaned(f *fill) {
	if f.content.readers > 0 || c.fills[f.name] != f {
		return
	}
	f.idle = time.AfterFunc(c.waits.idle, func() { c.endIdle(f, f.available()*2 >= f.size) })
}

// endIdle ends a fill that still has no reader, now or after another wait.
func (c *Cache) endIdle(f *fill, again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case f.content.readers > 0 || c.fills[f.name] != f:
	case again:
		f.idle = time.AfterFunc(c.waits.rest, func() { c.endIdle(f, false) })
	default:
		f.cancel(errIdle)
	}
}

// watch ends a fill that has become slower than the minimal rate. A registry that
// has not answered yet is the fetch function's to give up.
func (c *Cache) watch(f *fill, before int64) {
	now := f.available()
	if before >= 0 && now-before < c.waits.minimum {
		f.cancel(errSlow)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fills[f.name] == f {
		f.slow = time.AfterFunc(c.waits.period, func() { c.watch(f, now) })
	}
}
