package main

import (
	"context"
	"encoding/base64"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/cmd/waveproxy/demo"
	"github.com/waveproxy/waveproxy/config"
	"github.com/waveproxy/waveproxy/metrics"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// TestHealthFromTheStart: the server is alive before it is put together, which a storage
// may keep it from for any time.
func TestHealthFromTheStart(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if err := syscall.Mkfifo(key, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := config.Defaults()
	cfg.HTTP.Addr, cfg.Storage.Dir = "127.0.0.1:0", t.TempDir()
	cfg.Tokens.Keys = []config.TokenKey{{File: key}} // its reader waits for a writer
	log := newLogged()
	ctx, cancel := context.WithCancel(t.Context())
	ready, served := make(chan string, 1), make(chan error, 1)
	go func() { served <- serve(ctx, cfg, nil, log.logger(), func(base string) { ready <- base }) }()
	addr := regexp.MustCompile(`addr=(\S+)`).FindStringSubmatch(log.wait(t, "msg=\"listening"))[1]
	if status, body, _ := get(t, "http://"+addr+"/healthz"); status != http.StatusOK || body != `{"status":"ok"}`+"\n" {
		t.Errorf("/healthz: %d %s", status, body)
	}
	for _, path := range []string{"/readyz", "/v2/", "/v2/wt/x/library/a/manifests/1", "/v1alpha2/container"} {
		if status, body, h := get(t, "http://"+addr+path); status != http.StatusServiceUnavailable || h.Get("Retry-After") == "" || !strings.Contains(body, "the server is starting") {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if err := os.WriteFile(key, []byte(base64.StdEncoding.EncodeToString(make([]byte, 32))), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, body, _ := get(t, <-ready+"/readyz"); status != http.StatusOK {
		t.Errorf("/readyz: %d %s", status, body)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// TestRecipesWait: a recipe whose origin is down stops neither the server nor the other
// recipes, and is there when its origin is.
func TestRecipesWait(t *testing.T) {
	before := firstRetry
	firstRetry = time.Millisecond
	t.Cleanup(func() { firstRetry = before })
	site := upstreamtest.New(t)
	site.Answer(upstreamtest.Status(http.StatusServiceUnavailable, "Retry-After", "3600"))
	r := runRecipes(t, "  "+site.Host()+": {plain_http: true}\nrecipes:\n"+
		"  a: {env: [A=1]}\n  b: {env: [B=1], container_config_url: 'http://"+site.Host()+"/b.json'}\n")
	r.log.wait(t, "level=WARN", "not loaded", "recipe=b", "503")
	r.has(t, "a", "A=1")
	status, body, h := get(t, "http://"+r.base+"/v2/wt/b/"+demo.Repository+"/manifests/"+demo.Tag)
	if status != http.StatusServiceUnavailable || h.Get("Retry-After") == "" || !strings.Contains(body, `has not been loaded yet`) {
		t.Errorf("a recipe that waits: %d %s", status, body)
	}
	if status, body, _ := get(t, "http://"+r.base+"/readyz"); status != http.StatusOK || !strings.Contains(body, "the recipe b has not been loaded") {
		t.Errorf("/readyz: %d %s", status, body)
	}
	site.Answer(nil)
	site.PutFile("/b.json", []byte(`{"env": ["FROM=site"]}`))
	r.log.wait(t, "recipes in force", `recipes="[a b]"`, "waiting=[]")
	r.has(t, "b", "FROM=site")
	if status, body, _ := get(t, "http://"+r.base+"/readyz"); status != http.StatusOK || strings.Contains(body, "problems") {
		t.Errorf("/readyz: %d %s", status, body)
	}
}

// slowly is a server with a request that does not end until release is closed.
func slowly(t *testing.T, cfg *config.Config) (l *listening, log *logged, release chan struct{}) {
	t.Helper()
	log, release = newLogged(), make(chan struct{})
	l = &listening{gate: new(gate), state: new(readiness), counts: metrics.New(version), failed: make(chan error, 2), log: log.logger()}
	t.Cleanup(l.close)
	if _, err := l.listen(cfg); err != nil {
		t.Fatal(err)
	}
	begun := make(chan struct{}, 10)
	l.gate.open(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			begun <- struct{}{}
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
	}))
	go func() {
		req, _ := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+l.addr.String()+"/slow", nil)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	<-begun
	return l, log, release
}

func draining() *config.Config {
	cfg := config.Defaults()
	cfg.HTTP.Addr, cfg.HTTP.DrainTimeout = "127.0.0.1:0", time.Hour
	return cfg
}

// TestDrain: readiness falls while requests are still taken, then what runs may end, and
// the end is a good one.
func TestDrain(t *testing.T) {
	cfg := draining()
	cfg.HTTP.DrainDelay = 100 * time.Millisecond
	l, log, release := slowly(t, cfg)
	drained := make(chan error, 1)
	go func() { drained <- l.drain(t.Context(), cfg) }()
	log.wait(t, "shutting down", "delay=100ms", "requests=1")
	if _, err := l.state.check(t.Context()); err == nil || !strings.Contains(err.Error(), "shutting down") {
		t.Errorf("ready while draining: %v", err)
	}
	if status, _, _ := get(t, "http://"+l.addr.String()+"/other"); status != http.StatusOK {
		t.Errorf("a request within the delay: %d", status)
	}
	for { // until the listener is closed
		conn, err := net.Dial("tcp", l.addr.String())
		if err != nil {
			break
		}
		conn.Close()
	}
	select {
	case err := <-drained:
		t.Fatalf("ended before its request: %v", err)
	default:
	}
	close(release)
	if err := <-drained; err != nil {
		t.Error(err)
	}
	log.wait(t, "all requests have ended")
}

// TestDrainEnds: a second signal, as the time-out does, cuts off what runs. Both are told
// with the number of requests.
func TestDrainEnds(t *testing.T) {
	for name, test := range map[string]struct {
		timeout time.Duration
		why     string
	}{
		"second signal": {time.Hour, "a second signal arrived"},
		"time-out":      {time.Millisecond, "http.draintimeout is over"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := draining()
			cfg.HTTP.DrainTimeout = test.timeout
			l, log, _ := slowly(t, cfg)
			drained := make(chan error, 1)
			go func() { drained <- l.drain(t.Context(), cfg) }()
			log.wait(t, "shutting down")
			if name == "second signal" {
				if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
			}
			if err := <-drained; err == nil || err.Error() != "shut down: 1 requests were cut off, because "+test.why {
				t.Errorf("%v", err)
			}
			log.wait(t, "level=WARN", "cut the requests", "requests=1", test.why)
		})
	}
}

// TestNotify: systemd is told when the server is ready, reloads and ends.
func TestNotify(t *testing.T) {
	dir := t.TempDir()
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", filepath.Join(dir, "s"))
	next := func() string {
		buf := make([]byte, 1000)
		n, err := socket.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	t.Run("server", func(t *testing.T) {
		r := runRecipes(t, "recipes: {a: {env: [A=1]}}\n")
		if got := next(); got != "READY=1" {
			t.Errorf("after the start: %q", got)
		}
		for _, change := range []func(string) string{
			func(s string) string { return strings.Replace(s, "A=1", "A=2", 1) },
			func(s string) string { return s + "nonsense\n" },
		} {
			r.rewrite(t, change)
			if got := next(); !regexp.MustCompile(`^RELOADING=1\nMONOTONIC_USEC=[0-9]+\n$`).MatchString(got) {
				t.Errorf("at the reload: %q", got)
			}
			if got := next(); got != "READY=1" {
				t.Errorf("after the reload: %q", got)
			}
		}
	})
	if got := next(); got != "STOPPING=1" {
		t.Errorf("at the end: %q", got)
	}
	t.Setenv("NOTIFY_SOCKET", "")
	notifyReady(slog.New(slog.DiscardHandler)) // without systemd
}
