package attack

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// hostile is a registry with one handler per repository. It counts the requests
// and the bytes that the server took.
type hostile struct {
	*httptest.Server
	tinyImage

	mu       sync.Mutex
	attacks  map[string]http.HandlerFunc // by repository
	requests map[string]int
	taken    map[string]int64
	busy     map[string]int // requests that are being answered
}

func newHostile(t *testing.T) *hostile {
	t.Helper()
	h := &hostile{
		tinyImage: newTinyImage(t),
		attacks:   map[string]http.HandlerFunc{}, requests: map[string]int{}, taken: map[string]int64{}, busy: map[string]int{},
	}
	h.Server = httptest.NewServer(h)
	h.Server.Config.ErrorLog = quiet
	t.Cleanup(h.Close)
	t.Cleanup(h.CloseClientConnections) // or Close would wait for endless answers
	return h
}

func (h *hostile) host() string { return strings.TrimPrefix(h.URL, "http://") }

// settings returns a configuration that lists the registry, because an unlisted
// one may not be at loopback.
func (h *hostile) settings() map[string]string {
	return map[string]string{"WAVEPROXY_REGISTRIES": fmt.Sprintf("{%q: {plain_http: true}}", h.host())}
}

func (h *hostile) on(repository string, attack http.HandlerFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.attacks[repository] = attack
}

func (h *hostile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	repository := r.URL.Query().Get("of") // for paths without a repository
	if name, _, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/"); ok && repository == "" {
		repository = name
	}
	h.mu.Lock()
	h.requests[repository]++
	h.busy[repository]++
	attack := h.attacks[repository]
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		h.busy[repository]--
		h.mu.Unlock()
	}()
	if attack == nil {
		attack = h.tinyImage.ServeHTTP
	}
	attack(&counted{w, h, repository}, r)
}

// counted counts the bytes that were written for a repository.
type counted struct {
	http.ResponseWriter
	to         *hostile
	repository string
}

func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.to.mu.Lock()
	c.to.taken[c.repository] += int64(n)
	c.to.mu.Unlock()
	return n, err
}

// result waits until the registry has stopped sending.
func (h *hostile) result(t *testing.T, repository string) (requests int, taken int64) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		h.mu.Lock()
		requests, taken = h.requests[repository], h.taken[repository]
		busy := h.busy[repository] > 0
		h.mu.Unlock()
		if !busy {
			return requests, taken
		}
		if time.Now().After(deadline) {
			t.Errorf("BREACH: %s: the server reads on, and has taken %d bytes", repository, taken)
			return requests, taken
		}
	}
}

// endless sends text until the connection breaks.
func endless(w io.Writer, start, text string) {
	chunk := strings.Repeat(text, 64<<10/len(text)+1)
	_, err := io.WriteString(w, start)
	for err == nil {
		_, err = io.WriteString(w, chunk)
	}
}

// hijacked runs fn with the bare connection.
func hijacked(t *testing.T, fn func(w io.Writer)) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fn(&counted{connWriter{conn}, w.(*counted).to, w.(*counted).repository})
	}
}

// connWriter makes a connection a ResponseWriter for code that only uses Write.
type connWriter struct{ net.Conn }

func (connWriter) Header() http.Header { return nil }

func (connWriter) WriteHeader(int) {}
