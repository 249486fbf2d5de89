package attack

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// slow is a connection that sends a byte a second. A connection has no goroutine
// of its own, because the race detector allows 8,128 goroutines.
type slow struct {
	net.Conn
	kind   int
	closed time.Time
}

// tick sends the next byte and notes whether the server has closed the
// connection.
func (s *slow) tick(text string) {
	if !s.closed.IsZero() {
		return
	}
	if text != "" {
		_ = s.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := s.Write([]byte(text)); err != nil {
			s.closed = time.Now()
			return
		}
	}
	raw, err := s.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		s.closed = time.Now()
		return
	}
	_ = raw.Read(func(fd uintptr) bool {
		var b [4096]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_DONTWAIT)
		if n == 0 && err == nil || err != nil && !errors.Is(err, syscall.EAGAIN) {
			s.closed = time.Now()
		}
		return true
	})
}

// TestAttackSlowly opens 10,000 connections that send a byte a second, or
// nothing. The server must keep working, stay within its memory, and close them.
func TestAttackSlowly(t *testing.T) {
	t.Parallel()
	const connections = 10_000
	if need := uint64(connections + 1000); !mayOpen(need) {
		t.Fatalf("this test opens %d files, which the limit of the machine does not allow (ulimit -Hn)", need)
	}
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	pid := p.PID
	wantAlive(t, p, "busybox:oci")
	// Unwanted bodies are short enough that net/http reads them to their end, as
	// it does to keep a connection.
	kinds := []struct{ name, start, next string }{
		{"nothing", "", ""},
		{"a request line", "GET /v2/", "x"},
		{"headers", "GET /v2/ HTTP/1.1\r\nHost: a\r\n", "X"},
		{"a header's value", "GET /v2/ HTTP/1.1\r\nHost: a\r\nX-Header: ", "x"},
		{"the body of a GET", "GET /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n", "x"},
		{"the chunks of a GET", "GET /v2/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"},
		{"a body for an unknown path", "POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n", "x"},
		{"a body of another type", "POST /v1alpha2/container HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 200000\r\n\r\n", "x"},
	}
	began := time.Now()
	slows := make([]*slow, connections)
	for i := range slows {
		// Many addresses, each with ports of its own.
		from := &net.TCPAddr{IP: net.IPv4(127, 1, byte(i%7), byte(1+i%11))}
		conn, err := (&net.Dialer{LocalAddr: from}).DialContext(t.Context(), "tcp4", p.Host)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		slows[i] = &slow{Conn: conn, kind: i % len(kinds)}
		defer conn.Close()
		if _, err := conn.Write([]byte(kinds[slows[i].kind].start)); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	t.Logf("%d connections after %v", connections, time.Since(began))
	wantAlive(t, p, "busybox:oci") // while all are open
	ends := map[string]time.Time{}
	for deadline := time.Now().Add(25 * time.Second); time.Now().Before(deadline) && len(ends) < len(kinds); {
		second := time.Now().Add(time.Second)
		open := make([]int, len(kinds))
		for _, s := range slows {
			if s.tick(kinds[s.kind].next); s.closed.IsZero() {
				open[s.kind]++
			}
		}
		for kind, n := range open {
			if _, ended := ends[kinds[kind].name]; n == 0 && !ended {
				ends[kinds[kind].name] = time.Now()
			}
		}
		wantAlive(t, p, "busybox:oci")
		wantStatus(t, "the API", harness.Do(t, http.MethodGet, p.URL+"/healthz"), http.StatusOK)
		time.Sleep(time.Until(second))
	}
	for _, kind := range kinds {
		if at, ended := ends[kind.name]; !ended {
			t.Errorf("BREACH: connections that slowly send %s stay open", kind.name)
		} else {
			t.Logf("connections that slowly send %s had ended after %v", kind.name, at.Sub(began).Round(time.Second))
		}
	}
	// A connection with its goroutine and buffers takes 20 KiB, 200 MiB for all.
	wantMemory(t, pid, 400)
}

// mayOpen raises the limit of open files, if necessary, for this process and its
// children, and reports whether so many may be open.
func mayOpen(files uint64) bool {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return false
	}
	// Programs in Go raise the soft limit to the hard one when they start.
	return limit.Max >= files || syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: files, Max: files}) == nil
}

// TestAttackSlowReader: clients that read their answers slowly, or never, do not
// delay other clients.
func TestAttackSlowReader(t *testing.T) {
	t.Parallel()
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	pid := p.PID
	a := p.Augment(t, harness.Request{ContainerImage: "busybox:oci", ContainerConfig: harness.Greeter(t)})
	layer := harness.BlobOf(t, reg, "library/busybox:oci")
	for range 500 {
		conn, err := net.Dial("tcp", p.Host)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(conn, "GET /v2/wt/%s/library/busybox/blobs/%s HTTP/1.1\r\nHost: a\r\n\r\n", a.ContainerToken, layer.GzipDigest); err != nil {
			t.Fatal(err)
		}
	}
	wantAlive(t, p, "busybox:oci")
	// Each holds a buffer of 32 KiB and two connections.
	wantMemory(t, pid, 200)
}
