package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/auth"
)

func TestConcurrencyOption(t *testing.T) {
	if _, err := New(Options{Concurrency: -1}); err == nil {
		t.Error("a negative one is taken")
	}
	for given, want := range map[int]int{0: defaultConcurrency, 5: 5} {
		if c, _ := newClient(t, Options{Concurrency: given}); c.hops.queue.limit != want {
			t.Errorf("%d: %d", given, c.hops.queue.limit)
		}
	}
}

// All hops of a call are on one host with one slot: no hop may wait for another
// hop of the same call.
func TestOneSlotIsEnough(t *testing.T) {
	b := &bearer{password: "hunter2"}
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == manifestPath && r.Header.Get("Authorization") == "Bearer t1":
			http.Redirect(w, r, "/v2/team/elsewhere", http.StatusTemporaryRedirect)
		case r.URL.Path == "/token":
			http.Redirect(w, r, "/login", http.StatusTemporaryRedirect)
		default:
			b.serve(w, r)
		}
	})
	b.realm = s.URL + "/token"
	o := listed(s)
	o.Concurrency = 1
	o.Keychain = keychain(auth.Credential{Username: "ci", Password: "hunter2"})
	c, _ := newClient(t, o)
	wantManifest(t, c, image)
	if n := len(s.TakeLines()); n != 5 {
		t.Errorf("%d requests, want 5", n)
	}
	empty(t, c.hops.queue)
}

// A body that is not read holds no slot.
func TestStreamsHoldNoSlot(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == manifestPath {
			serveManifest(w, r)
		} else {
			endless(w, r)
		}
	})
	o := listed(s)
	o.Concurrency = 1
	c, _ := newClient(t, o)
	for range 3 {
		layer, err := c.Repository(image).Layer(t.Context(), ocispec.Descriptor{Digest: digest.FromString("layer"), Size: 1 << 40})
		if err != nil {
			t.Fatal(err)
		}
		defer layer.Close()
		if _, err := io.ReadFull(layer, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	wantManifest(t, c, image)
}

func TestHostGetsSoManyAtATime(t *testing.T) {
	const limit = 3
	var now, most atomic.Int32
	full := make(chan struct{})
	var once sync.Once
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if n == limit {
			once.Do(func() { close(full) })
		}
		<-full // so that as many as may come are here at a time
		now.Add(-1)
		serveManifest(w, r)
	})
	o := listed(s)
	o.Concurrency = limit
	c, _ := newClient(t, o)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := c.Repository(image).Manifest(t.Context(), "1.0"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most.Load() != limit || len(s.TakeLines()) != 50 {
		t.Errorf("%d at a time, want %d", most.Load(), limit)
	}
	empty(t, c.hops.queue)
}

// The wait for a slot is part of the time that an answer may take.
func TestWaitInQueueEnds(t *testing.T) {
	s := newServer(t, serveManifest)
	o := listed(s)
	o.Concurrency = 1
	c, delays := newClient(t, o)
	leave, err := c.hops.queue.enter(t.Context(), s.Host(), of("another"))
	if err != nil {
		t.Fatal(err)
	}
	const says = "is busy with earlier requests of this server"
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = c.Repository(image).Manifest(ctx, "1.0")
	if wantError(t, err, Timeout, s.Host(), says); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deadline is lost: %v", err)
	}
	c.answerTimeout = 50 * time.Millisecond
	if err = manifestError(t, c, image); errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want none of a cancelled context", err)
	}
	wantError(t, err, Timeout, s.Host(), says)
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if _, err = c.Repository(image).Manifest(ctx, "1.0"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	s.WantRequests(t)
	if len(delays.All()) != 0 {
		t.Errorf("%d retries", len(delays.All()))
	}
	leave()
	empty(t, c.hops.queue)
	wantManifest(t, c, image)
}
