//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// delay is what the slow upstream adds to each request.
const delay = 20 * time.Millisecond

// slowUpstream has the typical image under the tag "single" and the index under
// "index", and both under a second tag, in any repository.
type slowUpstream struct {
	base string

	mu       sync.Mutex
	requests []span
}

// span is the time in which a request was answered.
type span struct{ begin, end time.Time }

func startSlowUpstream(ctx context.Context, im *images) (*slowUpstream, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	known := map[string]document{"single": im.typical, "single-again": im.typical, "index": im.index, "index-again": im.index}
	for _, d := range append(im.children, im.typical, im.index, im.config) {
		known[d.Digest.String()] = d
	}
	u := &slowUpstream{base: "http://" + listener.Addr().String()}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			return
		}
		begin := time.Now()
		time.Sleep(delay)
		d, ok := known[r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", d.MediaType)
		w.Header().Set("Docker-Content-Digest", d.Digest.String())
		w.Header().Set("Content-Length", strconv.Itoa(len(d.data)))
		u.mu.Lock()
		u.requests = append(u.requests, span{begin, time.Now()})
		u.mu.Unlock()
		if r.Method == http.MethodGet {
			_, _ = w.Write(d.data)
		}
	})}
	context.AfterFunc(ctx, func() { server.Close() })
	go func() { _ = server.Serve(listener) }() // until the run ends
	return u, nil
}

// take returns the requests since the last call.
func (u *slowUpstream) take() []span {
	u.mu.Lock()
	defer u.mu.Unlock()
	taken := u.requests
	u.requests = nil
	return taken
}

// roundTrips returns how many of the requests waited for one another: the largest
// number of requests of which no two overlap.
func roundTrips(requests []span) int {
	requests = slices.SortedFunc(slices.Values(requests), func(a, b span) int { return a.end.Compare(b.end) })
	n := 0
	var last time.Time
	for _, r := range requests {
		if !r.begin.Before(last) {
			n, last = n+1, r.end
		}
	}
	return n
}

// mints measures how long submitting an image takes beyond the upstream's own time. Each image is in a repository of its own; with
// known set, another tag of the same image has been submitted before. A
// different number of requests is an error, and so is a different number of requests
// that wait for one another.
func (l *lab) mints(tag string, known bool, requests, trips int) measureFunc {
	return func(ctx context.Context, s *server) (reading, error) {
		if err := l.verifyMint(ctx, s, tag); err != nil {
			return reading{}, err
		}
		answer, err := l.directRoundTrip(ctx)
		if err != nil {
			return reading{}, err
		}
		before, err := use(s.process)
		if err != nil {
			return reading{}, err
		}
		var own, waited []float64
		for i := range full(l, 30, 5) {
			name := fmt.Sprintf("bench/%s-%d", tag, i)
			submitted := tag
			if known {
				if _, err := l.mint(ctx, s, name, tag); err != nil {
					return reading{}, err
				}
				l.slow.take()
				submitted += "-again"
			}
			took, err := l.mint(ctx, s, name, submitted)
			if err != nil {
				return reading{}, err
			}
			asked := l.slow.take()
			if len(asked) != requests {
				return reading{}, fmt.Errorf("%d upstream requests, want %d", len(asked), requests)
			}
			waited = append(waited, float64(roundTrips(asked)))
			own = append(own, milliseconds(took-time.Duration(trips)*answer))
		}
		// Not each time: on a busy machine, one of two requests that are sent at
		// once may be held up until the other one is answered.
		if n := median(waited); n != float64(trips) {
			return reading{}, fmt.Errorf("%v round trips to the upstream, want %d", n, trips)
		}
		after, err := use(s.process)
		if err != nil {
			return reading{}, err
		}
		return reading{foreign: after.since(before).foreign(), values: map[string]float64{"own ms": median(own)}}, nil
	}
}

// mint submits an image with the small layer and returns how long that took.
func (l *lab) mint(ctx context.Context, s *server, name, tag string) (time.Duration, error) {
	body, err := l.submission(name+":"+tag, l.images.small)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	_, err = l.submit(ctx, s, body)
	return time.Since(start), err
}

// verifyMint checks that the result has the added layer. It also opens the
// connections that all submissions but the first one of a server find open.
func (l *lab) verifyMint(ctx context.Context, s *server, tag string) error {
	name, err := l.augment(ctx, s, "bench/first:"+tag, l.images.small)
	if err != nil {
		return err
	}
	var m struct{ Manifests, Layers []ocispec.Descriptor }
	if err := l.document(ctx, s.base+"/v2/"+name+"/manifests/"+tag, &m); err != nil {
		return err
	}
	l.slow.take()
	single := len(m.Layers) == len(l.images.layers)+1 && m.Layers[len(m.Layers)-1].Digest == l.images.small.Digest
	if index := len(m.Manifests) == len(l.images.children)/2; !single && !index {
		return fmt.Errorf("%s has %d layers and %d manifests", tag, len(m.Layers), len(m.Manifests))
	}
	return nil
}

// directRoundTrip returns how long the slow upstream takes without a proxy: the delay,
// and the time that timers and loopback add to it.
func (l *lab) directRoundTrip(ctx context.Context) (time.Duration, error) {
	var times []float64
	for range full(l, 30, 5) {
		start := time.Now()
		var m ocispec.Manifest
		if err := l.document(ctx, l.slow.base+"/v2/bench/direct/manifests/single", &m); err != nil {
			return 0, err
		}
		times = append(times, float64(time.Since(start)))
	}
	l.slow.take()
	return time.Duration(median(times)), nil
}
