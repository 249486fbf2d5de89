package attack

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/integration/harness"
)

// openFiles counts the descriptors of a process.
func openFiles(t *testing.T, pid int) int {
	t.Helper()
	list, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestAttackAbandonedDownloads submits layers that do not end, and leaves: their
// downloads end, too.
func TestAttackAbandonedDownloads(t *testing.T) {
	t.Parallel()
	const submissions = 150
	var running atomic.Int32
	h := newHostile(t)
	h.on("endless", func(w http.ResponseWriter, r *http.Request) {
		running.Add(1)
		defer running.Add(-1)
		w.Header().Set("Content-Length", "1000000000")
		for r.Context().Err() == nil {
			_, _ = w.Write(make([]byte, 64<<10))
			_ = http.NewResponseController(w).Flush()
			time.Sleep(50 * time.Millisecond)
		}
	})
	settings := h.settings()
	settings["WAVEPROXY_HTTP_PROXIES"] = `["127.0.0.1"]` // clients of several addresses, because each may have 64
	p := harness.StartProxy(t, "", settings)
	before := openFiles(t, p.PID)
	ctx, leave := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for i := range submissions {
		layer := harness.Layer{Location: fmt.Sprintf("%s/l.tar.gz?of=endless&n=%d", h.URL, i), GzipDigest: fmt.Sprintf("sha256:%064x", i)}
		if i%2 == 0 {
			layer.Location = "docker://" + h.host() + "/v2/endless/blobs/" + layer.GzipDigest
		}
		body := string(harness.MustJSON(t, map[string]any{"containerImage": h.host() + "/good:x", "containerConfig": harness.Config{Layers: []harness.Layer{layer}}}))
		address := fmt.Sprint("192.0.2.", 1+i%4)
		clients.Go(func() { _, _ = p.Call(ctx, http.MethodPost, submission, body, "X-Forwarded-For", address) })
	}
	for end := time.Now().Add(30 * time.Second); running.Load() < submissions; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of %d downloads have begun", running.Load(), submissions)
		}
	}
	leave()
	clients.Wait()
	http.DefaultClient.CloseIdleConnections()
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		open, downloads := openFiles(t, p.PID)-before, running.Load()
		if downloads == 0 && open <= 20 {
			break
		}
		if time.Now().After(end) {
			t.Errorf("BREACH: %d downloads go on without a client, %d descriptors are open", downloads, open)
			break
		}
	}
	if left, err := filepath.Glob(filepath.Join(p.Dir, ".tmp-*")); err != nil || len(left) != 0 {
		t.Errorf("BREACH: files are left: %q, %v", left, err)
	}
}

// TestAttackHelpers asks for many absent names of a registry whose credential comes
// from a helper.
func TestAttackHelpers(t *testing.T) {
	t.Parallel()
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Www-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(registry.Close)
	host := strings.TrimPrefix(registry.URL, "http://")
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("docker-credential-slow", fmt.Sprintf("#!/bin/sh\necho x >> %q\nsleep 1\necho '{\"Username\":\"u\",\"Secret\":\"p\"}'\n", filepath.Join(dir, "runs")))
	p := harness.StartProxy(t, "", map[string]string{
		"PATH":                    dir + ":" + os.Getenv("PATH"),
		"WAVEPROXY_REGISTRIES":    fmt.Sprintf("{%q: {plain_http: true}}", host),
		"WAVEPROXY_DOCKER_CONFIG": write("config.json", fmt.Sprintf(`{"credHelpers":{%q:"slow"}}`, host)),
	})
	var wg sync.WaitGroup
	for i := range 150 {
		wg.Go(func() {
			r, err := p.Call(t.Context(), http.MethodPost, submission, fmt.Sprintf(`{"containerImage": "%s/absent/n%d"}`, host, i))
			if err != nil || r.Status != http.StatusForbidden {
				t.Errorf("%v: %d %s", err, r.Status, r.Body)
			}
		})
	}
	wg.Wait()
	runs, err := os.ReadFile(filepath.Join(dir, "runs"))
	if n := strings.Count(string(runs), "x"); err != nil || n != 1 {
		t.Errorf("BREACH: %d processes for 150 requests, %v", n, err)
	}
}

// TestAttackAbsentNames asks for a thousand absent names of a slow registry at once: a
// client at another address waits for an answer or two, not for all of them, also for
// a name that the first client has asked for as well.
func TestAttackAbsentNames(t *testing.T) {
	t.Parallel()
	const slots, answer, names = 16, 250 * time.Millisecond, 1200
	var asked atomic.Int32
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		time.Sleep(answer)
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(registry.Close)
	host := strings.TrimPrefix(registry.URL, "http://")
	p := harness.StartProxy(t, "", map[string]string{
		"WAVEPROXY_REGISTRIES":      fmt.Sprintf("{%q: {plain_http: true}}", host),
		"WAVEPROXY_LIMITS_UPSTREAM": strconv.Itoa(slots),
		"WAVEPROXY_HTTP_PROXIES":    `["127.0.0.1"]`,
	})
	ctx, leave := context.WithCancel(t.Context())
	var flood sync.WaitGroup
	for i := range names {
		flood.Go(func() {
			_, _ = p.Call(ctx, http.MethodPost, submission, fmt.Sprintf(`{"containerImage": "%s/absent/n%d"}`, host, i), "X-Forwarded-For", "192.0.2.1")
		})
	}
	for asked.Load() < 2*slots {
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(time.Second) // the flood has arrived
	const popular = "/popular/name"
	flood.Go(func() {
		_, _ = p.Call(ctx, http.MethodPost, submission, fmt.Sprintf(`{"containerImage": %q}`, host+popular), "X-Forwarded-For", "192.0.2.1")
	})
	time.Sleep(answer) // it waits in the flood's line
	for _, name := range []string{popular, "/honest/name"} {
		begun := time.Now()
		r, err := p.Call(t.Context(), http.MethodPost, submission, fmt.Sprintf(`{"containerImage": %q}`, host+name), "X-Forwarded-For", "192.0.2.2")
		if err != nil || r.Status != http.StatusNotFound {
			t.Errorf("%s: %v: %d %s", name, err, r.Status, r.Body)
		}
		if took := time.Since(begun); took > 8*answer {
			t.Errorf("BREACH: a client waited %s for %s, one answer takes %s", took, name, answer)
		} else {
			t.Logf("a client waited %s for %s", took, name)
		}
	}
	leave()
	flood.Wait()
}
