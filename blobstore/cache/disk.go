package cache

import (
	"cmp"
	"container/list"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/internal/durable"
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
	name    string
	size    int64
	touched time.Time // the modification time of its file
	content *content
}

func (c *Cache) path(name string) string { return filepath.Join(c.dir, name) }

// nameOf returns what a blob goes by: algorithm and hex digits of a valid digest,
// which keep the path in the directory, and what stands for the registry.
func nameOf(registry string, d digest.Digest) string {
	sum := sha256.Sum256([]byte(registry))
	return d.Algorithm().String() + "-" + d.Encoded() + "-" + hex.EncodeToString(sum[:16])
}

// file is the blob's file: its name and the size that was stored, so that damage
// shows after a restart, too.
func (e *entry) file() string { return e.name + "-" + strconv.FormatInt(e.size, 10) }

// parseFile reads a file's name as an entry.
func parseFile(file string) (e entry, ok bool) {
	i := strings.LastIndexByte(file, '-')
	parts := strings.Split(file, "-")
	if len(parts) != 4 || !registryPattern.MatchString(parts[2]) || !isDigest(parts[0], parts[1]) {
		return e, false
	}
	e.name, e.content = file[:i], &content{}
	var err error
	e.size, err = strconv.ParseInt(parts[3], 10, 64)
	return e, err == nil && e.file() == file
}

// isOldFile reports whether older versions kept blobs in such files. They did not
// note the registry, or too little of it, so no reader may have them.
func isOldFile(file string) bool {
	parts := strings.Split(file, "-")
	if len(parts) == 4 && oldPattern.MatchString(parts[2]) {
		parts = parts[:2]
	}
	return len(parts) == 2 && isDigest(parts[0], parts[1])
}

func isDigest(algorithm, hex string) bool {
	return digest.NewDigestFromEncoded(digest.Algorithm(algorithm), hex).Validate() == nil
}

// Half of a name's 128 bits were enough for an older version.
var registryPattern, oldPattern = regexp.MustCompile(`^[0-9a-f]{32}$`), regexp.MustCompile(`^[0-9a-f]{16}$`)

// own takes the directory for this process, unless it has it. The caller has
// locked c.mu.
func (c *Cache) own() error {
	if c.owned {
		return nil
	}
	if durable.TryLock(c.lock) == durable.ErrLocked {
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
		if !e.Type().IsRegular() {
			continue
		}
		blob, isBlob := parseFile(e.Name())
		info, err := e.Info()
		if err != nil {
			return err
		}
		damaged := isBlob && info.Size() != blob.size
		if strings.HasPrefix(e.Name(), tempPrefix) || isOldFile(e.Name()) || damaged {
			if err := os.Remove(c.path(e.Name())); err != nil {
				return err
			}
			continue
		}
		if isBlob {
			blob.touched = info.ModTime()
			found = append(found, &blob)
		}
	}
	slices.SortFunc(found, func(a, b *entry) int {
		return cmp.Or(a.touched.Compare(b.touched), strings.Compare(a.name, b.name))
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
	c.blobs[e.name] = c.recent.PushFront(e)
	c.kept += e.size
}

// lookup opens a stored blob. It returns nil if there is none, or if it dropped
// the blob because the file was damaged: it has another size than when it was
// stored. A size that only the reader's descriptor claims drops nothing, because
// a stranger may have written it.
func (c *Cache) lookup(name string, size int64, proven bool) (*os.File, *content, error) {
	el, ok := c.blobs[name]
	if !ok {
		return nil, nil, nil
	}
	e := el.Value.(*entry)
	if size != e.size { // also when it is proven, so proving is no use
		return nil, nil, fmt.Errorf("%w: stored with %d bytes, not %d", ErrUnavailable, e.size, size)
	}
	if !proven {
		return nil, nil, ErrUnproven
	}
	path := c.path(e.file())
	f, err := os.Open(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err // a fault of the process (too many open files) rather than of the blob
	}
	if err == nil {
		info, err := f.Stat()
		if err == nil && info.Size() == e.size {
			c.recent.MoveToFront(el)
			if now := time.Now(); now.Sub(e.touched) > touchAfter {
				e.touched = now
				os.Chtimes(path, now, now) // if it fails, a later process evicts the blob too early
			}
			return f, e.content, nil
		}
		f.Close()
	}
	c.log.Warn("cached blob is missing or has another size, fetching it again", "blob", name)
	return nil, nil, c.drop(el)
}

// drop removes a stored blob. A file that cannot be removed still counts.
func (c *Cache) drop(el *list.Element) error {
	e := el.Value.(*entry)
	err := c.remove(e.content, c.path(e.file()), e.size)
	if errors.Is(err, fs.ErrNotExist) {
		c.lose(e.content, nil, e.size)
	} else if err != nil {
		return err
	}
	c.recent.Remove(el)
	delete(c.blobs, e.name)
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
