package cache

import (
	"cmp"
	"container/list"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// lockName is the file that is locked by the process that uses the directory.
	lockName = ".lock"

	// tempPrefix begins the names of unfinished files.
	tempPrefix = ".tmp-"

	// touchAfter is how old the time of the last use may get on disk. Only a later
	// process reads it there.
	touchAfter = time.Hour
)

// entry is a blob in the directory.
type entry struct {
	digest  digest.Digest
	size    int64
	touched time.Time // the modification time of its file
}

func (c *Cache) path(name string) string { return filepath.Join(c.dir, name) }

// blobPath returns the path of a blob. The digest is valid, which keeps the path
// in the directory.
func (c *Cache) blobPath(d digest.Digest) string {
	return c.path(d.Algorithm().String() + "-" + d.Encoded())
}

// own takes the directory for this process, unless it has it. The caller has
// locked c.mu.
func (c *Cache) own() error {
	if c.owned {
		return nil
	}
	err := syscall.Flock(int(c.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return fmt.Errorf("%w: another process uses %s", ErrUnavailable, c.dir)
	}
	// Other errors say that the file system has no such locks.
	if err := c.scan(); err != nil {
		return err
	}
	c.owned = true
	return nil
}

// scan reads the names and sizes of the blobs in the directory and removes
// unfinished files. Names of other forms are left alone.
func (c *Cache) scan() error {
	names, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	var found []*entry
	for _, e := range names {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			if err := os.Remove(c.path(e.Name())); err != nil {
				return err
			}
			continue
		}
		algorithm, hex, _ := strings.Cut(e.Name(), "-")
		d := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), hex)
		if d.Validate() != nil || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		found = append(found, &entry{d, info.Size(), info.ModTime()})
	}
	slices.SortFunc(found, func(a, b *entry) int {
		return cmp.Or(a.touched.Compare(b.touched), strings.Compare(string(a.digest), string(b.digest)))
	})
	c.recent.Init() // an earlier scan may have failed
	clear(c.blobs)
	c.kept = 0
	for _, e := range found {
		c.add(e)
	}
	return c.evict(c.max)
}

// add counts a stored blob as the most recently used.
func (c *Cache) add(e *entry) {
	c.blobs[e.digest] = c.recent.PushFront(e)
	c.kept += e.size
}

// lookup opens a stored blob. It returns nil if there is none, or if it dropped
// the blob because the file was damaged.
func (c *Cache) lookup(d ocispec.Descriptor) (*os.File, error) {
	el, ok := c.blobs[d.Digest]
	if !ok {
		return nil, nil
	}
	path := c.blobPath(d.Digest)
	f, err := os.Open(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err // a fault of the process (too many open files) rather than of the blob
	}
	if err == nil {
		info, err := f.Stat()
		if err == nil && info.Size() == d.Size {
			c.recent.MoveToFront(el)
			if e, now := el.Value.(*entry), time.Now(); now.Sub(e.touched) > touchAfter {
				e.touched = now
				os.Chtimes(path, now, now) // if it fails, a later process evicts the blob too early
			}
			return f, nil
		}
		f.Close()
	}
	c.log.Warn("cached blob is missing or has another size, fetching it again", "digest", d.Digest)
	return nil, c.drop(el)
}

// drop removes a stored blob. A file that cannot be removed still counts.
func (c *Cache) drop(el *list.Element) error {
	e := el.Value.(*entry)
	if err := os.Remove(c.blobPath(e.digest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	c.recent.Remove(el)
	delete(c.blobs, e.digest)
	c.kept -= e.size
	return nil
}

// evict drops the blobs least recently used until at most limit bytes are kept.
func (c *Cache) evict(limit int64) error {
	for c.kept > limit {
		if err := c.drop(c.recent.Back()); err != nil {
			return err
		}
	}
	return nil
}
