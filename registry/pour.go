package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// Buffers start small and grow when a stream turns out to be long and fast: a
// large one halves the processor time of a fast stream, and is wasted on the
// hundreds of slow ones that a node's link or a busy disk makes. Sockets swallow
// the first megabytes of any stream at full speed, so slow ones look fast for a
// while: that is why large buffers are lent, from a number that is fixed, and
// taken back when a write waits. The sizes were measured; more than 256 KiB
// brings nothing.
const (
	smallBuffer = 16 << 10
	largeBuffer = 256 << 10

	// maxLarge is enough to fill the sockets of more cores than any network keeps
	// busy.
	maxLarge = 64

	growAfter = 1 << 20
	// A stream that fills a large buffer in less time is fast: 25 MB/s.
	fastFill = 10 * time.Millisecond
)

var (
	smallBuffers = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
	lent         = semaphore.NewWeighted(maxLarge) // of largeBuffers
)

// pour copies the body of a response whose headers are written. An error means
// that the client did not get all of it.
func pour(w io.Writer, body io.Reader) error {
	for {
		if err := pourSmall(w, body); err != errGrow {
			return err
		}
		if err := pourLarge(w, body); err != errShrink {
			return err
		}
	}
}

// These end one buffer's turn.
var errGrow, errShrink = errors.New("long and fast"), errors.New("slow")

// pourSmall returns errGrow when a large buffer is lent to it.
func pourSmall(w io.Writer, body io.Reader) error {
	buffer := smallBuffers.Get().(*[smallBuffer]byte)
	defer smallBuffers.Put(buffer)
	var total, mark int64
	marked := time.Now()
	for {
		n, err := move(w, body, buffer[:])
		if err != nil {
			return finish(err)
		}
		if total += n; total-mark < largeBuffer {
			continue
		}
		now := time.Now()
		if total >= growAfter && now.Sub(marked) < fastFill && lent.TryAcquire(1) {
			return errGrow
		}
		mark, marked = total, now
	}
}

func pourLarge(w io.Writer, body io.Reader) error {
	defer lent.Release(1)
	buffer := largeBuffers.Get().(*[largeBuffer]byte)
	defer largeBuffers.Put(buffer)
	for {
		start := time.Now()
		if _, err := move(w, body, buffer[:]); err != nil {
			return finish(err)
		}
		if time.Since(start) > 10*fastFill {
			return errShrink
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
	note(ctx).err = err
	panic(http.ErrAbortHandler)
}
