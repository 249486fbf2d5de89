package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/waveproxy/waveproxy/front"
	"golang.org/x/sync/semaphore"
)

// bodyTimeout bounds how long a request may take to arrive.
const bodyTimeout = 5 * time.Minute

// decode reads a JSON request body into v and returns it. Unknown members are
// ignored, because old and new clients send more than this server knows.
func (s server) decode(w http.ResponseWriter, r *http.Request, v any) ([]byte, error) {
	if t := r.Header.Get("Content-Type"); t != "" {
		if media, _, err := mime.ParseMediaType(t); err != nil || media != "application/json" {
			return nil, front.Refuse(http.StatusUnsupportedMediaType, front.Unsupported, "content type %.100q: want application/json", t)
		}
	}
	if err := s.admit(w, r); err != nil {
		return nil, err
	}
	// The server itself has no deadline, because a blob may take any time.
	// Writers without a connection, in tests, cannot set one.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout))
	if r.ContentLength > s.MaxBody {
		w.Header().Set("Connection", "close")
		return nil, tooLarge(s.MaxBody)
	}
	data, err := io.ReadAll(s.bodies.reader(r.Context(), http.MaxBytesReader(w, r.Body, s.MaxBody)))
	if err == nil {
		_ = control.SetReadDeadline(time.Time{})
	}
	if errors.Is(err, errBusy) {
		w.Header().Set("Connection", "close")
		return nil, front.Busy(busyRetry, "too many large requests at once: try again")
	}
	if over, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, tooLarge(over.Limit)
	}
	if err != nil {
		return nil, front.Refuse(http.StatusBadRequest, front.Unsupported, "the request body could not be read: %v", err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return nil, front.Refuse(http.StatusBadRequest, front.Unsupported, "%s", describeJSON(err))
	}
	return data, nil
}

func tooLarge(limit int64) error {
	return front.Refuse(http.StatusRequestEntityTooLarge, front.Unsupported, "the request is larger than %d bytes (api.max_body)", limit)
}

// bodies bounds the memory of all request bodies together.
type bodies struct{ left *semaphore.Weighted }

// bodiesAtOnce is the number of requests of the largest size that may be served at
// once. Each needs some three times its size until it is answered.
const bodiesAtOnce = 8

// busyRetry is how long a refused client is told to wait.
const busyRetry = 5 * time.Second

var errBusy = errors.New("too many large requests at once")

// reader returns r, whose bytes count until the request has ended.
func (b bodies) reader(ctx context.Context, r io.Reader) io.Reader {
	return &countedBody{ctx: ctx, reader: r, left: b.left}
}

type countedBody struct {
	ctx    context.Context
	reader io.Reader
	left   *semaphore.Weighted

	once  sync.Once
	mu    sync.Mutex
	held  int64
	ended bool
}

func (c *countedBody) Read(p []byte) (int, error) {
	c.once.Do(func() { context.AfterFunc(c.ctx, c.release) })
	n, err := c.reader.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || n == 0 {
		return n, err
	}
	if !c.left.TryAcquire(int64(n)) {
		return 0, errBusy
	}
	c.held += int64(n)
	return n, err
}

func (c *countedBody) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left.Release(c.held)
	c.held, c.ended = 0, true
}

// describeJSON says where a document is wrong, without quoting it, because the
// value may be a secret.
func describeJSON(err error) string {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Sprintf("the request is not valid JSON: %v at byte %d", syntax, syntax.Offset)
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		where := wrong.Field
		if where == "" {
			where = "the request"
		}
		return fmt.Sprintf("%s: a JSON %s does not belong there, want %s", where, wrong.Value, jsonKind(wrong.Type.String()))
	}
	return "the request is not valid: " + strings.Join(strings.Fields(err.Error()), " ")
}

func jsonKind(goType string) string {
	switch {
	case goType == "string":
		return "a string"
	case goType == "bool":
		return "true or false"
	case strings.HasPrefix(goType, "[]"):
		return "an array"
	case strings.HasPrefix(goType, "int"), goType == "json.Number":
		return "a number"
	}
	return "an object"
}
