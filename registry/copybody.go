package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/waveproxy/waveproxy/front"
	"golang.org/x/sync/semaphore"
)

// A stream starts with a small buffer, and gets a large one when it turns out to
// be long and fast. A large buffer halves the processor time of a fast stream, and
// is wasted on the hundreds of slow ones that a node's link or a busy disk makes.
// Sockets take the first megabytes of any stream at full speed, so slow streams
// look fast for a while. Therefore the number of large buffers is fixed, and a
// stream loses its buffer when a write waits.
const (
	smallBuffer = 16 << 10
	growAfter   = 1 << 20

	// A stream that sends 256 KiB in less time is fast: 25 MB/s. One that takes ten
	// times as long for one buffer is slow.
	fastSpan = 256 << 10
	fastTime = 10 * time.Millisecond
)

var (
	smallBuffers = newBuffers(smallBuffer)
	// Largest first. A larger buffer makes a lone stream faster, up to here. Many
	// streams cost a little more with smaller ones, but all buffers have to fit into
	// memory: these are 9.5 MiB.
	largeBuffers = []*bufferPool{newBufferPool(512<<10, 4), newBufferPool(256<<10, 8), newBufferPool(128<<10, 44)}
)

func newBuffers(size int) *sync.Pool {
	return &sync.Pool{New: func() any { b := make([]byte, size); return &b }}
}

// bufferPool has buffers for a fixed number of streams at a time.
type bufferPool struct {
	buffers *sync.Pool
	left    *semaphore.Weighted
}

func newBufferPool(size int, streams int64) *bufferPool {
	return &bufferPool{newBuffers(size), semaphore.NewWeighted(streams)}
}

// acquire takes a place in the pool of the largest buffers that has one left. The
// caller releases it. It returns nil if all pools are used up.
func acquire() *bufferPool {
	for _, p := range largeBuffers {
		if p.left.TryAcquire(1) {
			return p
		}
	}
	return nil
}

// copyBody copies the body of a response whose headers are written. An error means
// that the client did not get all of it; it is a leftError if the client failed.
func copyBody(w io.Writer, body io.Reader) error {
	for {
		pool, err := copySmall(w, body)
		if pool == nil {
			return err
		}
		if err := copyLarge(w, body, pool); err != errSlow {
			return err
		}
	}
}

// copySmall copies with a small buffer, until the stream has ended or deserves a
// large one. Then it returns the pool, in which the stream has a place.
func copySmall(w io.Writer, body io.Reader) (*bufferPool, error) {
	buffer := smallBuffers.Get().(*[]byte)
	defer smallBuffers.Put(buffer)
	var total, mark int64
	marked := time.Now()
	for {
		n, err := copyOnce(w, body, *buffer)
		if err != nil {
			return nil, withoutEOF(err)
		}
		if total += n; total-mark < fastSpan {
			continue
		}
		now := time.Now()
		if total >= growAfter && now.Sub(marked) < fastTime {
			if pool := acquire(); pool != nil {
				return pool, nil
			}
		}
		mark, marked = total, now
	}
}

var errSlow = errors.New("too slow for a large buffer")

// copyLarge copies with a buffer of the pool, until the stream has ended or, with
// errSlow, has become slow. It releases the stream's place.
func copyLarge(w io.Writer, body io.Reader, pool *bufferPool) error {
	defer pool.left.Release(1)
	buffer := pool.buffers.Get().(*[]byte)
	defer pool.buffers.Put(buffer)
	for {
		start := time.Now()
		if _, err := copyOnce(w, body, *buffer); err != nil {
			return withoutEOF(err)
		}
		if time.Since(start) > 10*fastTime {
			return errSlow
		}
	}
}

// copyOnce copies the bytes of one read.
func copyOnce(w io.Writer, body io.Reader, buffer []byte) (int64, error) {
	n, err := body.Read(buffer)
	if n > 0 {
		if _, err := w.Write(buffer[:n]); err != nil {
			return 0, &leftError{err}
		}
	}
	return int64(n), err
}

func withoutEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// leftError is the error of a client that went away or stopped reading.
type leftError struct{ err error }

func (e *leftError) Error() string { return "send to the client: " + e.err.Error() }

// Is makes it count as a request that the client canceled.
func (e *leftError) Is(target error) bool { return target == context.Canceled }

// abort cuts the connection of a response that cannot be completed, so that the
// client does not take the part that it has for the whole.
func abort(ctx context.Context, err error) {
	front.RecordOf(ctx).Err = err
	panic(http.ErrAbortHandler)
}
