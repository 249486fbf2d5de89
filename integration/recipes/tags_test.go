package recipes

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// flakyTags stands before a registry. By its state, it passes requests on,
// refuses them, or breaks connections off.
type flakyTags struct {
	*httptest.Server
	state atomic.Int32
}

const (
	fine int32 = iota
	tooMany
	gone
)

func newFlakyTags(t *testing.T, reg *upstream.Server) *flakyTags {
	t.Helper()
	target, err := url.Parse(reg.URL)
	if err != nil {
		t.Fatal(err)
	}
	m := &flakyTags{}
	next := httputil.NewSingleHostReverseProxy(target)
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch m.state.Load() {
		case tooMany:
			w.Header().Set("Retry-After", "60")
			http.Error(w, `{"errors":[{"code":"TOOMANYREQUESTS","message":"you have reached your pull rate limit"}]}`, http.StatusTooManyRequests)
		case gone:
			panic(http.ErrAbortHandler)
		default:
			next.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(m.Close)
	return m
}

// TestRecipeTagsOutliveTheUpstream: a tag that was pulled before can be pulled
// while the registry is down or refuses. Another tag is refused with the reason.
func TestRecipeTagsOutliveTheUpstream(t *testing.T) {
	t.Parallel()
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:docker", "busybox:oci")
	m := newFlakyTags(t, reg)
	dir := t.TempDir()
	settings := harness.WithScripts(t, reg)
	settings["WAVEPROXY_REGISTRIES"] = fmt.Sprintf(`{docker.io: {url: %q}}`, m.URL)
	start := func() *harness.Proxy { return harness.StartProxy(t, dir, settings) } // runs until all steps have ended
	p := start()
	want, _ := harness.NamedManifest(t, p, "scripts/library/busybox", "docker")
	time.Sleep(harness.TagLife)
	for _, step := range []struct {
		name    string
		mood    int32
		restart bool
		status  int
		says    []string
	}{
		{"too many requests", tooMany, false, http.StatusTooManyRequests, []string{"TOOMANYREQUESTS", "no more", "try again"}},
		{"too many requests, after a restart", tooMany, true, http.StatusTooManyRequests, []string{"TOOMANYREQUESTS", "no more", "try again"}},
		{"down, after a restart", gone, true, http.StatusBadGateway, []string{"no connection to " + strings.TrimPrefix(m.URL, "http://")}},
	} {
		t.Run(step.name, func(t *testing.T) {
			m.state.Store(step.mood)
			if step.restart {
				p.Stop()
				p = start()
			}
			tag := p.URL + "/v2/wt/scripts/library/busybox/manifests/"
			for range 3 {
				resp := harness.Do(t, http.MethodGet, tag+"docker")
				if got := harness.Sum([]byte(resp.Body)); resp.Status != http.StatusOK || got != want || resp.Header.Get("Warning") == "" {
					t.Errorf("status %d, digest %s, want %s; warning %q", resp.Status, got, want, resp.Header.Get("Warning"))
				}
			}
			if !strings.Contains(p.Log.String(), "serving the last known tag") {
				t.Error("the log does not say so")
			}
			resp := harness.Do(t, http.MethodGet, tag+"oci")
			if resp.Status != step.status {
				t.Errorf("a tag that was never pulled: status %d, want %d", resp.Status, step.status)
			}
			for _, text := range step.says {
				if !strings.Contains(resp.Body, text) {
					t.Errorf("the answer does not say %q: %s", text, resp.Body)
				}
			}
		})
	}
	m.state.Store(fine)
	// The server sends no requests to a failed registry for a while.
	harness.WaitFor(t, 30*time.Second, func() bool {
		return harness.Do(t, http.MethodGet, p.URL+"/v2/wt/scripts/library/busybox/manifests/oci").Status == http.StatusOK
	})
}
