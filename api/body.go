package api

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/front"
)

const (
	// A body may take bodyGrace to begin, and bodyRate bytes a second on average must
	// arrive from then on, so that a sender holds memory only as long as it sends.
	// There is no other limit: the largest body is slower than any fixed time allows.
	bodyGrace = 3 * time.Second
	bodyRate  = 16 << 10

	// window is how much of a body is read to find its sender's token there.
	window = 64 << 10
)

// body is a request's body as it arrives. Its memory is charged to the request's
// budget before it is allocated, and stays charged until release. It is not safe
// for concurrent use.
type body struct {
	writer  http.ResponseWriter
	source  io.Reader
	length  int64 // -1 if the request does not say
	limit   int64
	budget  *budget.Budget
	data    []byte
	waited  time.Duration // for the sender
	ended   bool
	release func() // gives back what data holds; may be called more than once
}

func newBody(w http.ResponseWriter, r *http.Request, limit int64) *body {
	return &body{
		writer: w, source: r.Body, length: r.ContentLength, limit: limit,
		budget: budget.From(r.Context()), release: func() {},
	}
}

// read reads until the body has ended or n bytes of it are there. Errors are for
// the client. After an error the connection is closed, because the rest of the
// body would arrive there in place of the next request.
func (b *body) read(n int64) error {
	err := b.fill(n)
	if err != nil {
		b.writer.Header().Set("Connection", "close")
	}
	return err
}

func (b *body) fill(n int64) error {
	if b.length > b.limit {
		return tooLarge(b.limit)
	}
	for n = min(n, b.limit); !b.ended && int64(len(b.data)) < n; {
		if len(b.data) == cap(b.data) {
			if err := b.grow(n); err != nil {
				return err
			}
		}
		m, err := b.next(b.data[len(b.data):cap(b.data)])
		b.data = b.data[:len(b.data)+m]
		if err != nil {
			return err
		}
		b.ended = b.ended || int64(len(b.data)) == b.length
	}
	for !b.ended && int64(len(b.data)) == b.limit { // only its end may follow
		if m, err := b.next(make([]byte, 1)); err != nil {
			return err
		} else if m > 0 {
			return tooLarge(b.limit)
		}
	}
	if b.ended {
		_ = http.NewResponseController(b.writer).SetReadDeadline(time.Time{})
	}
	return nil
}

// next reads what comes next, and notes the end. It waits as long as allowed.
func (b *body) next(p []byte) (int, error) {
	// Writers without a connection, in tests, cannot set a deadline.
	start := time.Now()
	_ = http.NewResponseController(b.writer).SetReadDeadline(start.Add(allowed(int64(len(b.data))) - b.waited))
	n, err := b.source.Read(p)
	b.waited += time.Since(start)
	switch {
	case errors.Is(err, io.EOF):
		b.ended = true
	case errors.Is(err, os.ErrDeadlineExceeded):
		return n, front.Refuse(http.StatusRequestTimeout, front.Unsupported,
			"the request body arrived too slowly: begin within %v and send at least %d KiB a second", bodyGrace, bodyRate>>10)
	case err != nil:
		return n, front.Refuse(http.StatusBadRequest, front.Unsupported, "the request body could not be read: %v", err)
	}
	return n, nil
}

// grow makes room for more, and for n bytes at most. A body of known length gets its
// room at once. The other ones double theirs, because they may be as small as most
// are.
func (b *body) grow(n int64) error {
	size := max(4<<10, 2*int64(cap(b.data)))
	if b.length >= 0 {
		size = b.length
	}
	size = min(size, n)
	part, err := b.budget.Hold(budget.Bodies, size)
	if err != nil {
		return err
	}
	whole, err := b.budget.Hold(budget.Memory, size)
	if err != nil {
		part()
		return err
	}
	release := func() { part(); whole() }
	b.data = append(make([]byte, 0, size), b.data...)
	b.release()
	b.release = release
	return nil
}

// allowed returns how long the server waits, in all, for the next byte of a body
// whose first n bytes have arrived.
func allowed(n int64) time.Duration {
	return bodyGrace + time.Duration(n)*time.Second/bodyRate
}

func tooLarge(limit int64) error {
	return front.Refuse(http.StatusRequestEntityTooLarge, front.Unsupported, "the request is larger than %d bytes (api.max_body)", limit)
}
