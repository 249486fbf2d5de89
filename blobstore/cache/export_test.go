package cache

import (
	"fmt"
	"os"
	"strings"
)

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
	for _, f := range c.fills {
		filling += f.size
	}
	if kept != c.kept || filling != c.filling || files > kept+filling || kept+filling > c.max ||
		temps != len(c.fills) || len(c.blobs) != c.recent.Len() || len(names)-1 != temps+len(c.blobs) {
		return fmt.Errorf("%d files of %d bytes, %d unfinished; %d blobs of %d bytes, counted %d; %d fills of %d bytes, counted %d; bound %d",
			len(names)-1, files, temps, len(c.blobs), kept, c.kept, len(c.fills), filling, c.filling, c.max)
	}
	return nil
}
