package front

import (
	"io"
	"net/http"
	"time"
)

// The rest of a refused body is read as far as this before the connection is closed.
// A sender that goes on into a closed connection may see it reset, and not the answer.
const (
	maxRest     = 16 << 20
	restTimeout = 2 * time.Second
)

// incoming is a request's body that knows how much of it is left.
type incoming struct {
	io.ReadCloser
	left int64 // by the request's Content-Length; below zero without one
	done bool  // the body has ended, or cannot be read
}

func (b *incoming) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left >= 0 {
		b.left -= int64(n)
	}
	b.done = b.done || err != nil || b.left == 0
	return n, err
}

// finish sends the answer to a request whose body was not wanted, and then reads the
// rest of that body for a moment. It does so only for senders that cannot be told to
// stop: HTTP/2 has a message for that, and one that expects a "100 Continue" waits. A
// sender that was too slow has failed a read, and is cut off.
func (b *incoming) finish(w http.ResponseWriter, r *http.Request, status int) {
	if b.done || status < http.StatusBadRequest || r.ProtoMajor > 1 || r.Header.Get("Expect") != "" || b.left > maxRest {
		return
	}
	c := http.NewResponseController(w)
	// Writers without a connection, in tests, can do neither.
	if c.SetReadDeadline(time.Now().Add(restTimeout)) == nil && c.Flush() == nil {
		_, _ = io.CopyN(io.Discard, b, maxRest)
	}
}
