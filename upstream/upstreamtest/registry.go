// Package upstreamtest is a registry on loopback for tests. It serves the objects
// that a test puts there, lists its requests, and can give other answers. It uses
// no code of the packages under test.
//
// Files: registry.go (Registry), object.go (its objects), answers.go (faulty
// answers), pauses.go (Pauses), proxy.go (proxies of HTTP), socks.go (proxies of
// SOCKS5).
package upstreamtest

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Registry is a host on loopback. Its methods are safe for concurrent use.
type Registry struct {
	*httptest.Server

	mu       sync.Mutex
	objects  map[string]Object // by path
	answers  map[string]http.HandlerFunc
	answer   http.HandlerFunc // for every path, before all others; nil if there is none
	requests []*http.Request
}

// New returns a registry that listens without TLS until the test ends.
func New(t testing.TB) *Registry {
	t.Helper()
	r := NewUnstarted(t)
	r.Start()
	return r
}

// NewUnstarted returns a registry for Start, StartTLS or a change of its Config.
func NewUnstarted(t testing.TB) *Registry {
	t.Helper()
	r := &Registry{objects: map[string]Object{}, answers: map[string]http.HandlerFunc{}}
	r.Server = httptest.NewUnstartedServer(r)
	r.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what some tests are about
	t.Cleanup(r.Close)
	return r
}

// Host returns the registry's host:port.
func (r *Registry) Host() string { return r.Listener.Addr().String() }

// Answer has every request answered by h. With nil, the registry serves its
// objects again.
func (r *Registry) Answer(h http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = h
}

// AnswerAt has requests of one path ("/v2/…") answered by h. With nil, the
// registry serves its object there again.
func (r *Registry) AnswerAt(path string, h http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h == nil {
		delete(r.answers, path)
		return
	}
	r.answers[path] = h
}

// ServeHTTP lists the request and answers it.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.requests = append(r.requests, req.Clone(req.Context())) // handlers may change theirs
	answer := r.answer
	if answer == nil {
		answer = r.answers[req.URL.Path]
	}
	r.mu.Unlock()
	if answer != nil {
		answer(w, req)
		return
	}
	r.ServeObject(w, req)
}

// ServeObject answers with the object at the path, for handlers of Answer.
func (r *Registry) ServeObject(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	o, found := r.objects[req.URL.Path]
	r.mu.Unlock()
	if !found {
		http.NotFound(w, req)
		return
	}
	o.ServeHTTP(w, req)
}

// ServeHTTP answers like a registry that has the object, ranges included.
func (o Object) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if o.MediaType != "" {
		w.Header().Set("Content-Type", o.MediaType)
	}
	w.Header().Set("Docker-Content-Digest", o.Digest().String())
	http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(o.Data))
}

// TakeRequests returns the requests since its last call, in their order.
func (r *Registry) TakeRequests() []*http.Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.requests
	r.requests = nil
	return taken
}

// TakeLines returns the requests since the last call of it or of TakeRequests, each
// as "GET /v2/team/app/manifests/1.0", followed by its Authorization if it has one.
func (r *Registry) TakeLines() []string {
	var lines []string
	for _, req := range r.TakeRequests() {
		lines = append(lines, strings.TrimSpace(req.Method+" "+req.URL.Path+" "+req.Header.Get("Authorization")))
	}
	return lines
}

// WantRequests compares TakeLines with the wanted ones, in order.
func (r *Registry) WantRequests(t testing.TB, want ...string) {
	t.Helper()
	compare(t, r.TakeLines(), want)
}

// WantAnyOrder compares TakeLines with the wanted ones, in any order.
func (r *Registry) WantAnyOrder(t testing.TB, want ...string) {
	t.Helper()
	compare(t, slices.Sorted(slices.Values(r.TakeLines())), slices.Sorted(slices.Values(want)))
}

func compare(t testing.TB, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("requests:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}
