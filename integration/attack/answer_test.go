package attack

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// TestAttackEchoes: a large body does not become a larger answer or a larger line of
// the log.
func TestAttackEchoes(t *testing.T) {
	t.Parallel()
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	settings := harness.DockerHub(reg.URL)
	settings["GOMEMLIMIT"] = "400MiB"
	p := harness.StartProxy(t, "", settings)
	for name, body := range map[string]string{
		"format": `{"containerImage":"busybox:oci","format":"` + strings.Repeat("\x7f", 31<<20) + `"}`,
		"URL":    `{"containerImage":"busybox:oci","containerConfig":{"layers":[{"location":"http://127.0.0.1:1/` + strings.Repeat("é", 15<<20) + `"}]}}`,
		"scheme": `{"containerImage":"busybox:oci","containerConfig":{"layers":[{"location":"` + strings.Repeat("\x7f", 31<<20) + `"}]}}`,
		"number": `{"containerImage":"busybox:oci","ttl":` + strings.Repeat("7", 31<<20) + `}`,
	} {
		logged := len(p.Log.String())
		r, err := p.Call(t.Context(), http.MethodPost, submission, body)
		if err != nil || r.Status < http.StatusBadRequest || len(r.Body) > 8<<10 {
			t.Errorf("BREACH: %s: %v, status %d, an answer of %d bytes", name, err, r.Status, len(r.Body))
		}
		if lines := len(p.Log.String()) - logged; lines > 64<<10 {
			t.Errorf("BREACH: %s: %d bytes of log", name, lines)
		}
	}
	wantMemory(t, p.PID, 256)
	wantAlive(t, p, "busybox:oci")
}

// TestAttackUnreadAnswers: what clients do not read is charged to them.
func TestAttackUnreadAnswers(t *testing.T) {
	t.Parallel()
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	settings := harness.DockerHub(reg.URL)
	settings["GOMEMLIMIT"] = "400MiB"
	p := harness.StartProxy(t, "", settings)
	a := p.Augment(t, harness.Request{ContainerImage: "busybox:oci", ContainerConfig: &harness.Config{Env: []string{"A=" + strings.Repeat("a", 240<<10)}}})
	request := strings.Repeat(fmt.Sprintf("GET /v1alpha2/container/%s HTTP/1.1\r\nHost: localhost\r\n\r\n", a.ContainerToken), 30)
	var all sync.WaitGroup
	for range 1500 {
		all.Go(func() {
			small := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
				return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
			}}
			conn, err := small.DialContext(t.Context(), "tcp4", strings.Replace(p.Host, "localhost", "127.0.0.1", 1))
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { conn.Close() })
			_, _ = io.WriteString(conn, request)
			_, _ = conn.Read(make([]byte, 1)) // the answer is there, and the client reads no more of it
		})
	}
	all.Wait()
	wantMemory(t, p.PID, 300)
	// Of the same address, which others share.
	r, err := p.Call(t.Context(), http.MethodGet, "/v1alpha2/container/"+a.ContainerToken+"/status", "")
	if err != nil || r.Status != http.StatusOK && r.Status != http.StatusTooManyRequests {
		t.Errorf("beside unread answers: %v, %d %s", err, r.Status, r.Body)
	}
}
