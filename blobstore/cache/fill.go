package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/internal/durable"
)

// These end fills that the disk has not failed. Readers go on by themselves.
var (
	errClosed = fmt.Errorf("%w: it is closed", ErrUnavailable)
	errIdle   = fmt.Errorf("%w: the fill had no readers", ErrUnavailable)
	errSlow   = fmt.Errorf("%w: the fill was too slow", ErrUnavailable)
	errNoRoom = fmt.Errorf("%w: running fills take all the room", ErrUnavailable)
)

// fill is one running download. One goroutine writes its file, and every reader
// that opens the blob meanwhile reads it.
type fill struct {
	name             string // of the blob
	registry, client string
	access           string // of the reader whose fetch it is
	digest           digest.Digest
	size             int64
	file             *os.File // gets the blob's name when it is complete
	content          *content // of file
	cancel           context.CancelCauseFunc
	wanted           *budget.Shared // by the clients of its readers, one of whose turn it has

	// The cache's mutex guards these.
	counted int64       // bytes in Cache.filling, unless ended
	ended   bool        // it gives its room to another fill
	whole   bool        // all bytes have come, verified, and it counts in Cache.whole
	idle    *time.Timer // while there are no readers
	slow    *time.Timer // until the next look at the rate

	mu       sync.Mutex
	avail    int64         // bytes that readers may have; -1 until the upstream has answered
	verified bool          // avail is size, and the bytes have the digest
	err      error         // no more than avail bytes will come; ErrUnavailable if the disk failed
	changed  chan struct{} // closed when a field above changes; nil while no reader waits
}

// wait returns how many bytes readers may have, as soon as they are more than
// offset or the blob is verified.
func (f *fill) wait(ctx context.Context, offset int64) (int64, error) {
	for {
		avail, changed, err := f.look(offset)
		if changed == nil {
			return avail, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// look is one turn of wait. The channel is nil if wait has its result.
func (f *fill) look(offset int64) (avail int64, changed <-chan struct{}, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.avail > offset || f.verified {
		return f.avail, nil, nil
	}
	if f.err != nil {
		return 0, nil, f.err
	}
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	return 0, f.changed, nil
}

// grow gives readers the bytes up to avail.
func (f *fill) grow(avail int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.avail = avail
	f.wake()
}

// end tells readers that the blob is complete and verified, or, with an error,
// that no more bytes come.
func (f *fill) end(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		f.avail, f.verified = f.size, true
	}
	f.err = err
	f.wake()
}

func (f *fill) wake() {
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// available is how many bytes readers may have, -1 before the upstream's answer.
func (f *fill) available() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.avail
}

// begin starts to fill a blob for its first reader. Room is made when bytes
// arrive, because a size is only what a descriptor claims. The caller has locked
// c.mu.
func (c *Cache) begin(ctx context.Context, name string, r Reader, d ocispec.Descriptor, fetch Fetch) (*fill, error) {
	if time.Now().Before(c.rest) {
		return nil, fmt.Errorf("the disk failed within the last %s", restAfterFailure)
	}
	if d.Size > c.max {
		return nil, fmt.Errorf("no room for %d bytes, the cache has %d", d.Size, c.max)
	}
	if err := c.mayBegin(r); err != nil {
		return nil, err
	}
	f := &fill{name: name, registry: r.Registry, client: r.Client, access: r.Access, digest: d.Digest, size: d.Size, content: &content{}, avail: -1}
	if c.yielding(f, min(d.Size, smallRing)) == f {
		return nil, errNoRoom // now, and not after a request to the registry
	}
	ring, err := budget.From(ctx).Hold(budget.Memory, smallRing)
	if err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(c.dir, tempPrefix+"*")
	if err != nil {
		ring()
		c.diskFailed(d.Digest, err)
		return nil, err
	}
	shared, wanted, end := budget.Share(context.WithoutCancel(ctx))
	shared, cancel := context.WithCancelCause(shared)
	f.file, f.cancel, f.wanted = file, cancel, wanted
	c.fills[name] = f
	c.fillers.Go(func() {
		defer end()
		defer ring()
		c.run(shared, f, fetch)
	})
	return f, nil
}

// run fills f and stores the blob, or leaves nothing. It tells readers of a
// failure after the fill is gone, so that an Open that follows starts a new one.
func (c *Cache) run(ctx context.Context, f *fill, fetch Fetch) {
	defer f.cancel(nil)
	defer f.file.Close()
	c.watch(f, -1)
	err := c.download(ctx, f, fetch)
	if err == nil {
		c.keep(f)
		f.end(nil) // readers do not wait for the disk
		if err = f.file.Sync(); err != nil {
			err = diskError{err}
		}
	} else if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err = c.settle(f, err); err != nil {
		f.end(err)
		return
	}
	// This process can use the blob even if its name is not durable.
	if err := durable.SyncDir(c.dir); err != nil {
		c.log.Warn("cannot sync the cache directory, a crash may lose the blob", "error", err)
	}
}

// diskError is a failure of the disk that keeps new fills from beginning.
type diskError struct{ error }

func (e diskError) Unwrap() []error { return []error{ErrUnavailable, e.error} }

// download writes the upstream's bytes to the file and lets readers have them,
// except for the last ones. The error is ErrUnavailable if the disk failed.
func (c *Cache) download(ctx context.Context, f *fill, fetch Fetch) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	body, err := fetch(ctx, 0)
	if err != nil {
		return err
	}
	defer body.Close()
	f.grow(0)

	a := newAhead(budget.From(ctx))
	defer a.release()
	var reading sync.WaitGroup
	reading.Go(func() { a.readFrom(body) })
	defer reading.Wait()
	defer cancel() // otherwise Wait would last as long as a body that is no longer needed

	hash := f.digest.Algorithm().Hash()
	var written int64
	err = a.pass(func(p []byte) error {
		if int64(len(p)) > f.size-written {
			return fmt.Errorf("%w: more than %d bytes", blobstore.ErrMismatch, f.size)
		}
		if err := c.room(f, int64(len(p))); err != nil {
			return err
		}
		if _, err := f.file.Write(p); err != nil {
			return diskError{err}
		}
		written += int64(len(p))
		if written < f.size {
			f.grow(written)
		}
		hash.Write(p)
		return nil
	})
	if err != nil {
		return err
	}
	if written < f.size {
		return fmt.Errorf("%w after %d bytes of %d", io.ErrUnexpectedEOF, written, f.size)
	}
	if found := digest.NewDigest(f.digest.Algorithm(), hash); found != f.digest {
		return fmt.Errorf("%w: found %s", blobstore.ErrMismatch, found)
	}
	return nil
}

// settle gives the file its name, or removes it if err is not nil, and updates
// the counts. It returns err, or the error of the renaming.
func (c *Cache) settle(f *fill, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.fills, f.name)
	if !f.ended {
		c.filling -= f.counted
	}
	if f.whole {
		c.whole -= f.counted
	}
	for _, timer := range []*time.Timer{f.idle, f.slow} {
		if timer != nil {
			timer.Stop()
		}
	}
	if err == nil {
		e := &entry{f.name, f.size, time.Now(), f.content}
		if err = os.Rename(f.file.Name(), c.path(e.file())); err == nil {
			c.add(e)
			if err = c.evict(c.keepable(0)); err != nil {
				c.diskFailed(f.digest, err)
			}
			return nil
		}
		err = diskError{err}
	}
	if c.remove(f.content, f.file.Name(), f.counted) != nil { // the next process does it
		c.lose(f.content, nil, f.counted)
	}
	if _, ofDisk := errors.AsType[diskError](err); ofDisk {
		c.diskFailed(f.digest, err)
	}
	return err
}

// diskFailed keeps new fills from beginning for a while. It logs the error, which
// readers may never see.
func (c *Cache) diskFailed(d digest.Digest, err error) {
	c.rest = time.Now().Add(restAfterFailure)
	c.log.Warn("cannot store a blob, streaming blobs that are not cached", "digest", d, "error", err)
}
