package main

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/waveproxy/waveproxy/api"
	"github.com/waveproxy/waveproxy/front"
)

// gate answers until the server is put together, which takes as long as the storage
// and the cache need, and counts the requests that have not ended.
type gate struct {
	handler atomic.Pointer[http.Handler]
	running atomic.Int64
}

// open sends requests to h from now on.
func (g *gate) open(h http.Handler) { g.handler.Store(&h) }

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.running.Add(1)
	defer g.running.Add(-1)
	if h := g.handler.Load(); h != nil {
		(*h).ServeHTTP(w, r)
		return
	}
	if r.URL.Path == "/healthz" {
		api.WriteHealth(w)
		return
	}
	front.WriteAPIError(w, r, front.Busy(time.Second, "not ready: the server is starting"))
}
