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
	// After is how many bytes of the body come first, at most all but one, for
	// those kinds that break off, and which byte is wrong for Flipped.
	After int64
}

// Kind is a kind of fault.
type Kind int

// The kinds. Those that break off do so when the other side has received what
// came first.
const (
	Fine        Kind = iota
	Reset            // the connection is reset
	Closed           // the connection is closed before the announced length
	Short            // the body ends, in order and without an announced length
	Stalled          // nothing more comes, and the connection stays open
	GoAway           // HTTP/2: GOAWAY that covers this stream, too
	TooLong          // the announced length is 1000 bytes more than the blob has, and that many come
	TooShort         // the announced length is 1000 bytes less, and that many come
	Flipped          // one byte is another
	Whole            // Range is ignored
	OtherRange       // 206 with the first bytes of the blob, whatever was asked for
	TooMany          // 429, Retry-After: 1
	ServerError      // 500
	Missing          // 404
	Loop             // a redirect to where it comes from
)

var kindNames = [...]string{
	"fine", "reset", "closed", "short", "stalled", "GOAWAY", "too long", "too short", "flipped", "range ignored", "other range",
	"429", "500", "404", "redirect loop",
}

func (k Kind) String() string { return kindNames[k] }

// wrongBy is how far announced lengths are off.
const wrongBy = 1000

// settleTimeout bounds the wait for the other side to receive what was sent. It
// stops reading when its own client does.
const settleTimeout = 30 * time.Second

var discardLog = log.New(io.Discard, "", 0)

// answer is the one to a GET of a blob.
type answer struct {
	w          http.ResponseWriter
	r          *http.Request
	done       <-chan struct{}
	content    content
	start, end int64 // what was asked for
}

// parse reads a range, of the forms that clients of registries send.
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

// give answers as it should, with the first n bytes.
func (a *answer) give(n int64) {
	a.head(a.end - a.start)
	a.send(n)
}

// head writes the headers. A negative length is not announced.
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
	_, _ = io.Copy(a.w, io.NewSectionReader(a.content, a.start, n)) // who left needs no answer
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

// breakOff sends some of the body and ends the answer in a way that it should not
// end.
func (a *answer) breakOff(f Fault) {
	if f.Kind == Short {
		a.head(-1)
	} else {
		a.head(a.end - a.start)
	}
	// A whole body would be one that nobody finds anything wrong with, while the
	// next request waits on its connection.
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

// reset closes a connection with RST, once the other side has received all that
// was sent: a reset throws away what is still to be sent.
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

// unsent is how many bytes the other side has not confirmed.
func unsent(raw syscall.RawConn) int {
	var n int
	_ = raw.Control(func(fd uintptr) { n = outq(fd) })
	return n
}
