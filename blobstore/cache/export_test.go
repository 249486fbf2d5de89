package cache

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// File returns the path of a stored blob.
func File(dir string, r Reader, d ocispec.Descriptor) string {
	e := entry{name: nameOf(r.Registry, d.Digest), size: d.Size}
	return filepath.Join(dir, e.file())
}

// SetWaits replaces the waits for fills without readers and below the minimal rate.
func (c *Cache) SetWaits(idle, rest, period time.Duration, minimum int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waits = waits{idle, rest, period, minimum}
}

// Alone reports whether the reader has left the fill for its own fetch function.
func (b *Blob) Alone() bool { return b.body != nil }

// Fills returns how many fills run.
func (c *Cache) Fills() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.fills)
}

// WaitFills returns when at most n fills run.
func (c *Cache) WaitFills(n int) {
	for c.Fills() > n {
		time.Sleep(time.Millisecond)
	}
}

// Wait returns when every fill has ended, its last sync included.
func (c *Cache) Wait() { c.fillers.Wait() }

// Check compares the counts with the directory and the bound, while no file gets
// or loses a name.
func (c *Cache) Check() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	names, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	var files, kept, filling int64
	var temps int
	for _, e := range names {
		if e.Name() == lockName {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		files += info.Size()
		if strings.HasPrefix(e.Name(), tempPrefix) {
			temps++
		}
	}
	for _, el := range c.blobs {
		kept += el.Value.(*entry).size
	}
	var whole, ended int64 // their files are about to go
	for _, f := range c.fills {
		if f.whole {
			whole += f.counted
		}
		if f.ended {
			ended += f.counted
		} else {
			filling += f.counted
		}
	}
	if kept != c.kept || whole != c.whole || filling != c.filling || files > kept+filling+ended || max(kept, filling) > c.max || c.unnamed < 0 || c.unnamed > c.max/2 ||
		temps != len(c.fills) || len(c.blobs) != c.recent.Len() || len(names)-1 != temps+len(c.blobs) {
		return fmt.Errorf("%d files of %d bytes, %d unfinished; %d blobs of %d bytes, counted %d; %d fills of %d bytes, counted %d; bound %d",
			len(names)-1, files, temps, len(c.blobs), kept, c.kept, len(c.fills), filling, c.filling, c.max)
	}
	return nil
}
