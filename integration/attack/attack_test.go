package attack

import (
	"bufio"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/integration/harness"
)

// canary is a server that the server under test must not connect to. It counts
// connections.
type canary struct {
	Host, URL string
	touched   atomic.Int64
}

// newCanary listens on a free port of loopback, answers everything, and counts.
func newCanary(t *testing.T) *canary {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &canary{Host: l.Addr().String(), URL: "http://" + l.Addr().String()}
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "treasure") }),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				d.touched.Add(1)
			}
		},
	}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	return d
}

// wantUntouched fails if the canary saw a connection.
func (d *canary) wantUntouched(t *testing.T) {
	t.Helper()
	if n := d.touched.Load(); n != 0 {
		t.Errorf("BREACH: %s saw %d connections", d.Host, n)
	}
}

// raw sends bytes as they are and reads one response. A connection closed without
// a response has the status 0.
func raw(t *testing.T, host, text string) harness.Response {
	t.Helper()
	conn, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(text, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return harness.Response{Body: err.Error()}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return harness.Response{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}
}

// peak returns the largest amount of memory, in MiB, that the process has held
// since it started or since forgetPeak.
func peak(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	text, _, _ := strings.Cut(rest, " kB")
	kib, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		t.Fatalf("VmHWM of process %d: %v", pid, err)
	}
	return kib / 1024
}

// wantMemory fails the test if the process ever held more than limit MiB.
func wantMemory(t *testing.T, pid, limit int) {
	t.Helper()
	if got := peak(t, pid); got > limit {
		t.Errorf("BREACH: the server held %d MiB of memory, want at most %d", got, limit)
	} else {
		t.Logf("the server held at most %d MiB of memory", got)
	}
}

// wantAlive wants the server to augment an image and serve it, as before the attack.
func wantAlive(t *testing.T, p *harness.Proxy, image string) {
	t.Helper()
	harness.Verify(t, p.Augment(t, harness.Request{ContainerImage: image, ContainerConfig: harness.Greeter(t)}).TargetImage)
}

// quiet is for servers whose clients are meant to fail.
var quiet = log.New(io.Discard, "", 0)
