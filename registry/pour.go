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

// Buffers start small and grow when a stream turns out to be long and fast: a
// large one halves the processor time of a fast stream, and is wasted on the
// hundreds of slow ones that a node's link or a busy disk makes. Sockets swallow
// the first megabytes of any stream at full speed, so slow ones look fast for a
// while: that is why large buffers are lent, from a number that is fixed, and
// taken back when a write waits.
const (
	smallBuffer = 16 << 10
	growAfter   = 1 << 20

	// Who sends 256 KiB in less time is fast: 25 MB/s. Who takes ten times as long
	// for one buffer is not.
	fastSpan = 256 << 10
	fastTime = 10 * time.Millisecond
)

var (
	smallBuffers = newBuffers(smallBuffer)
	// Largest first. A lone stream is as fast as its buffer is large, up to here;
	// of many, each costs a little more with a smaller one, and all of them have to
	// fit into memory: these are 9.5 MiB.
	lenders = []*lender{newLender(512<<10, 4), newLender(256<<10, 8), newLender(128<<10, 44)}
)

func newBuffers(size int) *sync.Pool {
	return &sync.Pool{New: func() any { b := make([]byte, size); return &b }}
}

// lender has buffers for some streams at a time.
type lender struct {
	buffers *sync.Pool
	left    *semaphore.Weighted
}

func newLender(size int, streams int64) *lender {
	return &lender{newBuffers(size), semaphore.NewWeighted(streams)}
}

// borrow returns the lender of the largest buffer to be had, or nil.
func borrow() *lender {
	for _, l := range lenders {
		if l.left.TryAcquire(1) {
			return l
		}
	}
	return nil
}

// pour copies the body of a response whose headers are written. An error means
// that the client did not get all of it.
func pour(w io.Writer, body io.Reader) error {
	for {
		from, err := pourSmall(w, body)
		if from == nil {
			return err
		}
		if err := pourLarge(w, body, from); err != errSlow {
			return err
		}
	}
}

// pourSmall returns a lender when it has grown out of its buffer.
func pourSmall(w io.Writer, body io.Reader) (*lender, error) {
	buffer := smallBuffers.Get().(*[]byte)
	defer smallBuffers.Put(buffer)
	var total, mark int64
	marked := time.Now()
	for {
		n, err := move(w, body, *buffer)
		if err != nil {
			return nil, finish(err)
		}
		if total += n; total-mark < fastSpan {
			continue
		}
		now := time.Now()
		if total >= growAfter && now.Sub(marked) < fastTime {
			if from := borrow(); from != nil {
				return from, nil
			}
		}
		mark, marked = total, now
	}
}

var errSlow = errors.New("too slow for a large buffer")

// pourLarge gives the buffer back.
func pourLarge(w io.Writer, body io.Reader, from *lender) error {
	defer from.left.Release(1)
	buffer := from.buffers.Get().(*[]byte)
	defer from.buffers.Put(buffer)
	for {
		start := time.Now()
		if _, err := move(w, body, *buffer); err != nil {
			return finish(err)
		}
		if time.Since(start) > 10*fastTime {
			return errSlow
		}
	}
}

// move copies what one read brings.
func move(w io.Writer, body io.Reader, buffer []byte) (int64, error) {
	n, err := body.Read(buffer)
	if n > 0 {
		if _, err := w.Write(buffer[:n]); err != nil {
			return 0, &leftError{err}
		}
	}
	return int64(n), err
}

func finish(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// leftError is a client that went away or stopped reading.
type leftError struct{ err error }

func (e *leftError) Error() string { return "send to the client: " + e.err.Error() }

// Is makes it what a request is that its client has canceled.
func (e *leftError) Is(target error) bool { return target == context.Canceled }

// abort ends a response that cannot be completed: the client must not take what
// it has for the whole.
func abort(ctx context.Context, err error) {
	front.RecordOf(ctx).Err = err
	panic(http.ErrAbortHandler)
}
