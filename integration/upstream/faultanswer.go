package upstream

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Fault is how an answer goes wrong. The zero Fault is none.
type Fault struct {
	Kind Kind
	// After is the number of bytes that are sent before the answer breaks off, at
	// most all but one. For Flipped it is the index of the wrong byte.
	After int64
}

// Kind is a kind of fault.
type Kind int

// The kinds. An answer breaks off when the other side has received the first
// bytes.
const (
	Fine        Kind = iota
	Reset            // the connection is reset
	Closed           // the connection is closed before the announced length
	Short            // the body ends, in order and without an announced length
	Stalled          // no more bytes are sent, and the connection stays open
	GoAway           // HTTP/2: GOAWAY that covers this stream, too
	TooLong          // 1000 bytes more than the blob has are announced and sent
	TooShort         // 1000 bytes less than the blob has are announced and sent
	Flipped          // one byte is wrong
	Whole            // Range is ignored
	OtherRange       // 206 with the first bytes of the blob, for any Range
	TooMany          // 429, Retry-After: 1
	ServerError      // 500
	Missing          // 404
	Loop             // a redirect to the same URL
)

var kindNames = [...]string{
	"fine", "reset", "closed", "short", "stalled", "GOAWAY", "too long", "too short", "flipped", "range ignored", "other range",
	"429", "500", "404", "redirect loop",
}

func (k Kind) String() string { return kindNames[k] }

// wrongBy is the difference, in bytes, between announced and true lengths.
const wrongBy = 1000

// settleTimeout bounds the wait for the other side to receive the sent bytes. The
// other side stops reading when its own client does.
const settleTimeout = 30 * time.Second

var discardLog = log.New(io.Discard, "", 0)

// answer is the answer to a GET of a blob.
type answer struct {
	w          http.ResponseWriter
	r          *http.Request
	done       <-chan struct{}
	content    content
	start, end int64 // the requested part
}

// parse reads a Range header in the forms that clients of registries send.
func (a *answer) parse(header string) bool {
	first, last, ok := strings.Cut(strings.TrimPrefix(header, "bytes="), "-")
	from, err := strconv.ParseInt(first, 10, 64)
	if !ok || err != nil || from >= a.end {
		return false
	}
	a.start = from
	if to, err := strconv.ParseInt(last, 10, 64); err == nil && to+1 < a.end {
		a.end = to + 1
	}
	return a.start < a.end
}

func (a *answer) serve(f Fault) {
	switch f.Kind {
	case Fine:
		a.give(a.end - a.start)
	case Whole:
		a.r.Header.Del("Range")
		a.start, a.end = 0, a.content.Size()
		a.give(a.end)
	case TooLong, TooShort:
		a.misjudge(f.Kind)
	case Flipped:
		a.content = flipped{a.content, min(a.start+f.After, a.end-1)}
		a.give(a.end - a.start)
	case OtherRange:
		a.r.Header.Set("Range", "any")
		a.start, a.end = 0, min(wrongBy, a.content.Size())
		a.give(a.end)
	case TooMany:
		a.w.Header().Set("Retry-After", "1")
		refuse(a.w, http.StatusTooManyRequests, "TOOMANYREQUESTS")
	case ServerError:
		refuse(a.w, http.StatusInternalServerError, "UNKNOWN")
	case Missing:
		refuse(a.w, http.StatusNotFound, "BLOB_UNKNOWN")
	case Loop:
		http.Redirect(a.w, a.r, a.r.URL.Path, http.StatusTemporaryRedirect)
	default:
		a.breakOff(f)
	}
}

// give sends correct headers and the first n bytes.
func (a *answer) give(n int64) {
	a.head(a.end - a.start)
	a.send(n)
}

// head writes the headers. If length is negative, it announces no length.
func (a *answer) head(length int64) {
	h, status := a.w.Header(), http.StatusOK
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Accept-Ranges", "bytes")
	if a.r.Header.Get("Range") != "" {
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", a.start, a.end-1, a.content.Size()))
		status = http.StatusPartialContent
	}
	if length >= 0 {
		h.Set("Content-Length", strconv.FormatInt(length, 10))
	}
	a.w.WriteHeader(status)
}

func (a *answer) send(n int64) {
	n = min(n, a.end-a.start)
	_, _ = io.Copy(a.w, io.NewSectionReader(a.content, a.start, n)) // an error means that the client has left
}

func (a *answer) misjudge(k Kind) {
	length := a.end - a.start
	if k == TooShort {
		length = max(0, length-wrongBy)
		a.head(length)
		a.send(length)
		return
	}
	a.head(length + wrongBy)
	a.send(length)
	_, _ = a.w.Write(make([]byte, wrongBy))
}

// breakOff sends a part of the body and ends the answer in the way of the fault.
func (a *answer) breakOff(f Fault) {
	if f.Kind == Short {
		a.head(-1)
	} else {
		a.head(a.end - a.start)
	}
	// The body must not be complete: the client would see no fault, and its next
	// request would wait on this connection.
	a.send(min(f.After, a.end-a.start-1))
	_ = http.NewResponseController(a.w).Flush()
	switch f.Kind {
	case Closed:
		panic(http.ErrAbortHandler) // with HTTP/2: RST_STREAM
	case Stalled:
		select {
		case <-a.r.Context().Done():
		case <-a.done:
		}
		panic(http.ErrAbortHandler)
	case Reset, GoAway:
		if c, ok := a.r.Context().Value(framesKey{}).(*frames); ok {
			c.end(a.r.Context(), f.Kind)
			return
		}
		conn, _, err := http.NewResponseController(a.w).Hijack()
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		reset(a.r.Context(), conn)
	}
}

// reset closes a connection with RST once the other side has received all sent
// bytes, because a reset discards bytes that are still in the kernel.
func reset(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	for deadline := time.Now().Add(settleTimeout); unsent(raw) > 0 && ctx.Err() == nil && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	_ = tcp.SetLinger(0)
}

// unsent returns the number of bytes that the other side has not acknowledged.
func unsent(raw syscall.RawConn) int {
	var n int
	_ = raw.Control(func(fd uintptr) { n = outq(fd) })
	return n
}
