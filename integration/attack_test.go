package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// The tests called TestAttack do what an enemy would, as a client, as a
// registry, or as the owner of a domain. Each proves that the attack was
// refused and that the place it was aimed at saw nothing, and each has a
// control: the same thing works when it is allowed. This file has what they
// share; attacknet_test.go has a network of their own.

// door is a place where nobody may be led to.
type door struct {
	Host, URL string
	opened    atomic.Int64
}

// closedDoor listens on a free port of loopback, answers everything, and counts.
func closedDoor(t *testing.T) *door {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{Host: l.Addr().String(), URL: "http://" + l.Addr().String()}
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "treasure") }),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				d.opened.Add(1)
			}
		},
	}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	return d
}

// wantShut fails if anybody came.
func (d *door) wantShut(t *testing.T) {
	t.Helper()
	if n := d.opened.Load(); n != 0 {
		t.Errorf("OPEN DOOR: %s saw %d connections", d.Host, n)
	}
}

// wantRegistryError wants the OCI error document and nothing else.
func wantRegistryError(t *testing.T, what string, r response, status int, code string) {
	t.Helper()
	var document struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal([]byte(r.body), &document); err != nil || len(document.Errors) != 1 {
		t.Errorf("%s: status %d, body %.300q is not an OCI error: %v", what, r.status, r.body, err)
		return
	}
	if e := document.Errors[0]; r.status != status || e.Code != code || e.Message == "" {
		t.Errorf("%s: status %d %s, want %d %s: %.300q", what, r.status, e.Code, status, code, r.body)
	}
}

// raw sends bytes as they are and reads one response. A connection closed
// without any is the status 0.
func raw(t *testing.T, host, text string) response {
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
		return response{body: err.Error()}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response{resp.StatusCode, resp.Header, string(body)}
}

// pid finds the server's process by its storage directory.
func (p *proxy) pid(t *testing.T) int {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		environ, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(environ, []byte("WAVEPROXY_STORAGE_DIR="+p.Dir+"\x00")) {
			continue // ended meanwhile, or another program
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil && pid != os.Getpid() {
			return pid
		}
	}
	t.Fatalf("no process has the storage %s", p.Dir)
	return 0
}

const mib = 1 << 20

// peak is the most memory that the process has held, in MiB, since it started
// or since forgetPeak.
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

// wantMemory fails when the process ever held more than limit MiB.
func wantMemory(t *testing.T, pid, limit int) {
	t.Helper()
	if got := peak(t, pid); got > limit {
		t.Errorf("OPEN DOOR: the server held %d MiB of memory, want at most %d", got, limit)
	} else {
		t.Logf("the server held at most %d MiB of memory", got)
	}
}

// wantAlive wants an image augmented and pulled, as if nothing had happened.
func wantAlive(t *testing.T, p *proxy, image string) {
	t.Helper()
	check(t, p.augment(t, request{ContainerImage: image, ContainerConfig: greeter(t)}).TargetImage)
}

// post sends JSON and returns whatever is answered.
func (p *proxy) post(t *testing.T, path string, body any) response {
	t.Helper()
	resp, err := p.call(t.Context(), http.MethodPost, path, string(mustJSON(t, body)))
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// quiet is for servers whose clients are meant to fail.
var quiet = log.New(io.Discard, "", 0)
