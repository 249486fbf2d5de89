package cache

import (
	"container/list"
	"context"
	_ "crypto/sha256" // makes the algorithm known to go-digest
	_ "crypto/sha512"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ErrUnavailable says that the cache cannot help and that the caller should
// fetch the blob from the upstream by itself. The message tells why.
var ErrUnavailable = errors.New("cache unavailable")

// restAfterFailure is how long no fill begins after the disk has failed one.
// Otherwise a full disk would make each blob cost a broken download first.
const restAfterFailure = 30 * time.Second

// Fetch returns the bytes of a blob from the offset to its end. A fill calls it
// once with offset 0. Readers call it when the disk has failed.
//
// A fill calls it in another goroutine, with a context that has the values of
// Open's context and does not end with it. The body has to end with that context,
// as the body of an HTTP response does, and has to fail by itself when it makes
// no progress.
type Fetch func(ctx context.Context, offset int64) (io.ReadCloser, error)

// Reader says in whose name a blob is opened. The cache is never a permission: it
// gives bytes to readers of the registry that sent them, and only to those that
// may read them there.
type Reader struct {
	// Registry is the base URL of the registry that the blob is asked of.
	Registry string
	// Access names what decides over access at the registry: identity and
	// repository. Readers with the same Access may read the same blobs there.
	Access string
	// Proven says that the registry has lately let this Access read the blob.
	Proven bool
	// Client is the party whose running fills are counted together.
	Client string
}

// ErrUnproven says that the cache has the blob, or is getting it, and that the
// reader has to show first that the registry lets it read the blob.
var ErrUnproven = errors.New("access to the blob is not proven")

// Cache is safe for concurrent use.
//
// One process at a time uses the directory. A second process gets a Cache that
// returns ErrUnavailable until the first process has ended, and then takes over.
// So a process may start while its predecessor still sends its last blobs.
// Replicas need a directory each. On a file system without locks (flock),
// processes that share the directory still serve only right bytes, but each of
// them counts only the blobs that it knows.
type Cache struct {
	dir  string
	max  int64
	log  *slog.Logger
	lock *os.File

	fillers sync.WaitGroup

	mu     sync.Mutex
	owned  bool // this process has the directory and has scanned it
	closed bool
	blobs  map[string]*list.Element // by file name
	recent *list.List               // of *entry, the most recently opened first
	fills  map[string]*fill         // by the file name that they get
	// kept and filling are the bytes of stored blobs and the bytes that running
	// fills have got so far. Each is at most max, and so are both together while more
	// than half of max is stored.
	kept, filling int64
	whole         int64     // bytes of filling that are verified
	unnamed       int64     // bytes of files that only readers have, at most half of max
	rest          time.Time // no fill begins before this time
	waits         waits
}

// Open returns the cache in the directory, which it makes if need be and which
// should hold nothing else. It removes unfinished files of killed processes and
// evicts blobs until at most max bytes are left. It looks at names and sizes
// only, which takes milliseconds for thousands of blobs.
//
// Failures of the disk that no reader sees are logged.
func Open(dir string, max int64, log *slog.Logger) (*Cache, error) {
	c := &Cache{
		dir: dir, max: max, log: log,
		blobs:  map[string]*list.Element{},
		recent: list.New(),
		fills:  map[string]*fill{},
		waits:  defaultWaits,
	}
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		// For writing, because NFS grants an exclusive lock for nothing less.
		c.lock, err = os.OpenFile(c.path(lockName), os.O_RDWR|os.O_CREATE, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("open cache: %w", err)
	}
	if err := c.own(); errors.Is(err, ErrUnavailable) {
		log.Warn("another process uses the cache, streaming blobs until it ends", "dir", dir)
	} else if err != nil {
		c.lock.Close()
		return nil, fmt.Errorf("open cache: %w", err)
	}
	return c, nil
}

// Close ends the running fills and gives up the directory. Open blobs stay
// readable; a blob that followed a fill goes on as after a failure of the disk.
func (c *Cache) Close() error {
	c.mu.Lock()
	c.closed = true
	for _, f := range c.fills {
		f.cancel(errClosed)
	}
	c.mu.Unlock()
	c.fillers.Wait()
	return c.lock.Close()
}

// Open returns the blob with the descriptor's digest and size. If it is neither
// stored nor being filled, a fill begins, even if the caller reads nothing from
// the Blob. So a caller that needs no bytes should not call Open. Open waits
// until the upstream has answered.
//
// An error of fetch is returned as it is. If another caller's fetch failed, the
// error is ErrUnavailable as well: the caller's own fetch may use other
// credentials or another registry. The error is also ErrUnavailable if there is
// no room, because the blob is larger than the cache or running fills take the
// room.
//
// Reads of the Blob that have to wait end with ctx. The caller closes the Blob.
func (c *Cache) Open(ctx context.Context, r Reader, d ocispec.Descriptor, fetch Fetch) (*Blob, error) {
	b, err := c.openBlob(ctx, r, d, fetch)
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", d.Digest, err)
	}
	return b, nil
}

func (c *Cache) openBlob(ctx context.Context, r Reader, d ocispec.Descriptor, fetch Fetch) (*Blob, error) {
	if err := d.Digest.Validate(); err != nil {
		return nil, err
	}
	if d.Size < 0 {
		return nil, fmt.Errorf("negative size %d", d.Size)
	}
	b := &Blob{ctx: ctx, desc: d, fetch: fetch, content: &content{}}
	first, err := c.find(b, r)
	if err != nil {
		return nil, err
	}
	if b.fill == nil {
		return b, nil
	}
	// The fill has the turn of each client that reads it, not only of the first one.
	stop, leave := b.fill.wanted.Join(ctx), b.leave
	b.leave = func() { stop(); leave() }
	if _, err = b.fill.wait(ctx, -1); err == nil {
		return b, nil
	}
	b.Close()
	if !first && ctx.Err() == nil {
		err = unavailable(err)
	}
	return nil, err
}

// find gives b the stored file, or the fill to follow and its growing file. It
// reports whether b is the first reader, whose fetch the fill uses.
func (c *Cache) find(b *Blob, r Reader) (first bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false, errClosed
	}
	name := nameOf(r.Registry, b.desc.Digest)
	if err = c.own(); err == nil {
		b.file, b.content, err = c.lookup(name, b.desc.Size, r.Proven)
	}
	if err != nil {
		return false, unavailable(err)
	}
	if b.file != nil {
		c.open(b.content)
		b.leave = func() { c.left(b.content) }
		return false, nil
	}
	f, running := c.fills[name]
	switch {
	case !running:
		if f, err = c.begin(b.ctx, name, r, b.desc, b.fetch); err != nil {
			return false, unavailable(err)
		}
	case f.size != b.desc.Size:
		return false, fmt.Errorf("%w: being fetched with a size of %d bytes, not %d", ErrUnavailable, f.size, b.desc.Size)
	case f.ended:
		return false, errNoRoom
	case f.access != r.Access:
		// A registry may have repositories of several owners, and bytes that have come are
		// not verified.
		return false, fmt.Errorf("%w: being fetched from another repository, or for another identity", ErrUnavailable)
	}
	// Under the lock, a fill in the map still has its temporary name. Every reader
	// opens the file by itself, because sendfile needs an offset of its own.
	if b.file, err = os.Open(f.file.Name()); err != nil {
		if !running {
			c.orphaned(f)
		}
		return false, unavailable(err)
	}
	b.fill, b.content = f, f.content
	b.leave = func() { c.leave(f) }
	c.join(f)
	return !running, nil
}

func unavailable(err error) error {
	if err == nil || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnproven) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// Available returns how many bytes of a blob can be read without waiting: all of
// a stored blob, the bytes so far of a running fill, otherwise 0. A caller that
// wants a range far beyond may rather ask the upstream.
func (c *Cache) Available(registry string, d digest.Digest) int64 {
	if d.Validate() != nil {
		return 0
	}
	name := nameOf(registry, d)
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.blobs[name]; ok {
		return e.Value.(*entry).size
	}
	if f, ok := c.fills[name]; ok {
		return max(f.available(), 0)
	}
	return 0
}
