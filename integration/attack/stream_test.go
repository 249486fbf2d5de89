package attack

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
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

// mostMemory is what the server may hold in MiB, when it may have 512 MiB. GOMEMLIMIT
// lets the heap grow to 400.
const mostMemory = 440

// wantHeld fails the test as soon as the server holds too much. until ends the watch.
func wantHeld(t *testing.T, p *harness.Proxy, what string, until func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !until(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("%s: not there after 20 s", what)
			break
		}
	}
	if n := peak(t, p.PID); n > mostMemory {
		t.Errorf("BREACH: %s: the server holds %d MiB", what, n)
	} else {
		t.Logf("%s: the server held %d MiB", what, n)
	}
}

// TestAttackUnreadStreams: clients that read nothing of blobs that come from a registry
// with HTTP/2.
func TestAttackUnreadStreams(t *testing.T) {
	t.Parallel()
	const size, clients = 64 << 20, 160
	var asked atomic.Int32
	image := newBigImage(t, size, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Length", strconv.Itoa(size))
		_, _ = io.CopyN(w, zeros{}, size)
	})
	registry := httptest.NewUnstartedServer(image)
	registry.EnableHTTP2 = true
	registry.Config.ErrorLog = quiet
	registry.StartTLS()
	t.Cleanup(registry.Close)
	t.Cleanup(registry.CloseClientConnections)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: registry.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	host := strings.TrimPrefix(registry.URL, "https://")
	p := harness.StartProxy(t, "", map[string]string{"WAVEPROXY_LOG_LEVEL": "info", "WAVEPROXY_REGISTRIES": fmt.Sprintf("{%q: {ca: %q}}", host, ca)})
	url := image.submit(t, p, host)
	for range clients {
		asking(t, p.Host, get(url))
	}
	wantHeld(t, p, "clients that read nothing", func() bool { return asked.Load() == clients })
	if n := peak(t, p.PID); n > 150 {
		t.Errorf("BREACH: the server holds %d MiB of streams that are not read", n)
	}
}

// TestAttackSlowStreams: four addresses have as many blobs sent as they can, from a
// registry that is slow. A fifth one still pulls three layers at once.
func TestAttackSlowStreams(t *testing.T) {
	t.Parallel()
	if !mayOpen(20000) {
		t.Fatal("the test needs 20000 files")
	}
	var asked atomic.Int32
	image, host := endlessBlobs(t, &asked)
	p := harness.StartProxy(t, "", map[string]string{
		"GOMEMLIMIT": "400MiB", "WAVEPROXY_LOG_LEVEL": "info", "WAVEPROXY_HTTP_PROXIES": `["127.0.0.1"]`,
		"WAVEPROXY_REGISTRIES": fmt.Sprintf("{%q: {plain_http: true}}", host),
	})
	url := image.submit(t, p, host)
	for i := range 4 * 700 {
		asking(t, p.Host, get(url, "X-Forwarded-For", fmt.Sprint("192.0.2.", 1+i%4), "X-Long", strings.Repeat("y", 50<<10)))
	}
	most := int32(0)
	wantHeld(t, p, "slow streams", func() bool {
		n := asked.Load()
		still := n > 500 && n == most
		most = n
		return still
	})
	var honest sync.WaitGroup
	for range 3 {
		honest.Go(func() {
			if took, err := firstByte(t.Context(), url, "192.0.2.9"); err != nil || took > 5*time.Second {
				t.Errorf("BREACH: a layer of another address takes %s, %v", took, err)
			}
		})
	}
	honest.Wait()
	wantHeld(t, p, "slow streams and a pull", func() bool { return true })
	t.Logf("%d streams ran", asked.Load())
}

// TestAttackSmallHeaders: connections send headers of a few letters each, or trailers, and
// never end them. net/http makes of them what is many times as large.
func TestAttackSmallHeaders(t *testing.T) {
	t.Parallel()
	p := harness.StartProxy(t, "", map[string]string{"WAVEPROXY_LOG_LEVEL": "info", "GOMEMLIMIT": "400MiB"})
	before := peak(t, p.PID)
	var names strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&names, "a%x,", i)
	}
	for _, headers := range []string{
		strings.ReplaceAll(names.String(), ",", ":\r\n"), "X: ,\r\nTrailer: " + names.String() + "\r\n", strings.Repeat("A:\r\n", 10_000),
	} {
		for range 300 {
			asking(t, p.Host, "GET /v2/ HTTP/1.1\r\nHost: a\r\n"+headers)
		}
	}
	wantHeld(t, p, "connections of small headers", func() bool { return openFiles(t, p.PID) < 100 })
	if n := peak(t, p.PID) - before; n > 100 {
		t.Errorf("BREACH: headers of %d connections cost %d MiB", 900, n)
	}
}

// TestClusterBehindOneAddress: 100 nodes behind one address pull three layers each at
// once, and all of them get their bytes at once.
func TestClusterBehindOneAddress(t *testing.T) {
	t.Parallel()
	const streams = 300
	var asked atomic.Int32
	image, host := endlessBlobs(t, &asked)
	p := harness.StartProxy(t, "", map[string]string{"WAVEPROXY_LOG_LEVEL": "info", "WAVEPROXY_REGISTRIES": fmt.Sprintf("{%q: {plain_http: true}}", host)})
	url := image.submit(t, p, host)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	for range streams {
		all.Go(func() {
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { resp.Body.Close() })
			if _, err := resp.Body.Read(make([]byte, 1)); err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("status %d, %v", resp.StatusCode, err)
			}
		})
	}
	all.Wait()
	if n := asked.Load(); n != streams {
		t.Errorf("%d streams ran at once, want %d", n, streams)
	}
}

// TestAttackIdleConnections: one address keeps as many connections as it can, with and
// without a request before.
func TestAttackIdleConnections(t *testing.T) {
	t.Parallel()
	if !mayOpen(20000) {
		t.Fatal("the test needs 20000 files")
	}
	p := harness.StartProxy(t, "", map[string]string{"WAVEPROXY_LOG_LEVEL": "info"})
	before := peak(t, p.PID)
	for range 3000 {
		asking(t, p.Host, "GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n")
		asking(t, p.Host, "GET /v2/ HTTP/1.1\r\nHost: a\r\nX-Long: ")
	}
	for end := time.Now().Add(5 * time.Second); openFiles(t, p.PID) > 1400 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if n := openFiles(t, p.PID); n > 1400 {
		t.Errorf("BREACH: %d files are open, want 256 idle and 1024 new connections", n)
	}
	if n := peak(t, p.PID) - before; n > 100 {
		t.Errorf("BREACH: connections without a request cost %d MiB", n)
	}
	if r := harness.Do(t, http.MethodGet, p.URL+"/v2/"); r.Status != http.StatusOK {
		t.Errorf("status %d beside them", r.Status)
	}
}
