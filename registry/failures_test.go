package registry

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/upstream"
)

// TestNamedTagReloadAfterRefusal: a reload takes effect at once, also for a tag that
// the previous recipe made unfit.
func TestNamedTagReloadAfterRefusal(t *testing.T) {
	net := newNetwork(t)
	s := net.start()
	net.PushIndex(t, "library/app", "1", "one", "amd64")
	good, _ := net.Recipe("tools")
	bad := good
	bad.Env = []string{"LARGE=" + strings.Repeat("x", 1<<20)} // no grant holds it
	net.setRecipe("tools", bad)
	for range 2 {
		if a := s.do("GET", toolsApp+"1"); a.status != 400 {
			t.Fatalf("status %d under a recipe that is too large", a.status)
		}
	}
	net.setRecipe("tools", good)
	s.get(toolsApp + "1")
}

// TestQueuedIsNoFailure: what waited too long in this server's own queue was never
// asked, so no other client is told that the upstream failed.
func TestQueuedIsNoFailure(t *testing.T) {
	arrived := make(chan struct{})
	reg := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	}))
	defer reg.Close()
	c, err := upstream.New(upstream.Options{Concurrency: 1, Registries: map[string]upstream.Registry{"quay.io": {URL: reg.URL}}})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(ctx context.Context, name string) error {
		_, err := c.Repository(auth.Target{Registry: "quay.io", Repository: name}).Manifest(ctx, "1")
		return err
	}
	ctx, leave := context.WithCancel(t.Context())
	first := make(chan error)
	go func() { first <- ask(ctx, "first") }()
	<-arrived
	late, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	err = ask(late, "second")
	if !upstream.IsTransient(err) || !upstream.IsQueued(err) {
		t.Errorf("not sent in time, and it is %v", err)
	}
	f := newFailures(time.Now)
	f.noteFailure("second", augment.Recipe{}, err)
	if err := f.recentFailure("second", augment.Recipe{}); err != nil {
		t.Errorf("the next client is told %v", err)
	}
	leave()
	if err := <-first; upstream.IsQueued(err) {
		t.Errorf("a request that was sent: %v", err)
	}
}
