package attack

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// pour sends start, and then unit again and again until a GiB is sent or the
// server stops reading. It returns the number of bytes that the server took, and
// the answer, whose status is 0 if there was none.
func pour(t *testing.T, host, start, unit string) (taken int64, r harness.Response) {
	conn, err := net.Dial("tcp", host)
	if err != nil {
		t.Error(err)
		return 0, harness.Response{}
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	answered := make(chan harness.Response, 1)
	go func() {
		var r harness.Response
		if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
			body, _ := io.ReadAll(io.LimitReader(resp.Body, harness.MiB))
			r = harness.Response{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}
		}
		answered <- r
	}()
	chunk := strings.Repeat(unit, 64<<10/len(unit)+1)
	for text := start; taken < 1024*harness.MiB; text = chunk {
		n, err := io.WriteString(conn, text)
		if taken += int64(n); err != nil {
			break
		}
	}
	return taken, <-answered
}

// kernelHolds returns how many bytes of a connection can be in the kernels'
// buffers, sent but not yet read.
func kernelHolds(t *testing.T) int64 {
	t.Helper()
	var sum int64
	for _, name := range []string{"tcp_rmem", "tcp_wmem"} {
		text, err := os.ReadFile("/proc/sys/net/ipv4/" + name)
		if err != nil {
			t.Fatal(err)
		}
		largest, err := strconv.ParseInt(strings.Fields(string(text))[2], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += largest
	}
	return sum
}

// TestAttackLargeBodies sends bodies of a GiB and bodies without an end to every
// endpoint.
func TestAttackLargeBodies(t *testing.T) {
	t.Parallel()
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	settings := harness.DockerHub(reg.URL)
	settings["WAVEPROXY_API_MAX_BODY"] = "4MiB"
	p := harness.StartProxy(t, "", settings)
	pid := p.PID
	token := p.Augment(t, harness.Request{ContainerImage: "busybox:oci", ContainerConfig: harness.Greeter(t)}).ContainerToken
	const reads, ignores = 4 * harness.MiB, 256 << 10 // api.max_body, and how much net/http reads of a body that no handler reads
	unseen := kernelHolds(t)
	turns, wg := make(chan struct{}, 16), sync.WaitGroup{}
	for target, test := range map[string]struct{ status, limit int64 }{
		"POST /v1alpha2/container":                            {http.StatusRequestEntityTooLarge, reads},
		"POST /container-token":                               {http.StatusRequestEntityTooLarge, reads},
		"POST /v1alpha1/inspect":                              {http.StatusRequestEntityTooLarge, reads},
		"POST /v1alpha2/validate-creds":                       {http.StatusRequestEntityTooLarge, reads},
		"POST /validate-creds":                                {http.StatusRequestEntityTooLarge, reads},
		"POST /nowhere":                                       {http.StatusNotFound, ignores},
		"PUT /v1alpha2/container":                             {http.StatusMethodNotAllowed, ignores},
		"DELETE /container-token/" + token:                    {http.StatusForbidden, ignores},
		"GET /container-token/" + token:                       {http.StatusOK, ignores},
		"GET /v1alpha2/container/" + token + "/status":        {http.StatusOK, ignores},
		"GET /healthz":                                        {http.StatusOK, ignores},
		"GET /openapi.json":                                   {http.StatusOK, ignores},
		"GET /v2/":                                            {http.StatusOK, ignores},
		"GET /v2/wt/" + token + "/library/busybox/tags/list":  {http.StatusOK, ignores},
		"PUT /v2/wt/" + token + "/library/busybox/blobs/x":    {http.StatusMethodNotAllowed, ignores},
		"POST /v2/wt/" + token + "/library/busybox/blobs/up":  {http.StatusMethodNotAllowed, ignores},
		"GET /wt/" + token + "/v2/library/busybox/tags/list":  {http.StatusOK, ignores},
		"PATCH /wt/" + token + "/v2/library/busybox/blobs/up": {http.StatusMethodNotAllowed, ignores},
	} {
		for framing, how := range map[string]struct{ header, start, unit string }{
			"1 GiB":          {"Content-Length: 1073741824", `{"x": "`, "x"},
			"1 EiB":          {"Content-Length: 1152921504606846976", `{"x": "`, "x"},
			"no end":         {"Transfer-Encoding: chunked", "", "400\r\n" + strings.Repeat("x", 0x400) + "\r\n"},
			"one chunk":      {"Transfer-Encoding: chunked", "fffffffffffffff\r\n", "x"},
			"chunk's header": {"Transfer-Encoding: chunked", "1;", "x"},
			"trailers":       {"Transfer-Encoding: chunked", "2\r\n{}\r\n0\r\n", "X-Trailer: x\r\n"},
			"packed":         {"Content-Length: 1073741824\r\nContent-Encoding: gzip", "\x1f\x8b\x08", "\x00"},
			"expected":       {"Content-Length: 1073741824\r\nExpect: 100-continue", "", "x"},
		} {
			name := framing + " to " + strings.ReplaceAll(target, token, "TOKEN")
			turns <- struct{}{}
			wg.Go(func() {
				defer func() { <-turns }()
				taken, r := pour(t, p.Host, target+" HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"+how.header+"\r\n\r\n"+how.start, how.unit)
				// The connection may be reset before the client reads the answer.
				// A malformed chunk or trailer is a bad request. Other bodies in
				// the same test may use up the client's memory for bodies.
				others := []int{int(test.status), 0, http.StatusContinue, http.StatusBadRequest, http.StatusTooManyRequests}
				if !slices.Contains(others, r.Status) {
					t.Errorf("%s: status %d, want %d: %.200s", name, r.Status, test.status, r.Body)
				}
				if taken > test.limit+unseen+harness.MiB {
					t.Errorf("BREACH: %s: %d MiB were taken", name, taken/harness.MiB)
				}
			})
		}
	}
	wg.Wait()
	// 16 bodies of 4 MiB at a time, in slices that double, and the garbage of as
	// many.
	wantMemory(t, pid, 256)
	wantAlive(t, p, "busybox:oci")
}

// TestAttackLargeHeaders does the same with request lines and headers.
func TestAttackLargeHeaders(t *testing.T) {
	t.Parallel()
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	pid := p.PID
	wantAlive(t, p, "busybox:oci")
	unseen, wg := kernelHolds(t), sync.WaitGroup{}
	for name, how := range map[string]struct{ start, unit string }{
		"a header of 1 GiB":     {"GET /v2/ HTTP/1.1\r\nHost: a\r\nX-Header: ", "x"},
		"a million headers":     {"GET /v2/ HTTP/1.1\r\nHost: a\r\n", "X: y\r\n"},
		"headers without names": {"GET /v2/ HTTP/1.1\r\nHost: a\r\n", ": y\r\n"},
		"a header's name":       {"GET /v2/ HTTP/1.1\r\nHost: a\r\n", "X"},
		"continued lines":       {"GET /v2/ HTTP/1.1\r\nHost: a\r\nX: y", "\r\n z"},
		"many hosts":            {"GET /v2/ HTTP/1.1\r\n", "Host: a\r\n"},
		"many cookies":          {"GET /v2/ HTTP/1.1\r\nHost: a\r\n", "Cookie: a=b; c=d\r\n"},
		"a path":                {"GET /v2/", "a/"},
		"a query":               {"GET /v2/?", "a=b&"},
		"a method":              {"", "G"},
		"a version":             {"GET /v2/ HTTP/", "1"},
		"empty lines":           {"", "\r\n"},
		"zeros":                 {"", "\x00"},
	} {
		wg.Go(func() {
			taken, r := pour(t, p.Host, how.start, how.unit)
			if r.Status != 0 && (r.Status < 400 || r.Status > 499) {
				t.Errorf("%s: status %d: %.200s", name, r.Status, r.Body)
			}
			if taken > unseen+harness.MiB {
				t.Errorf("BREACH: %s: %d MiB were taken", name, taken/harness.MiB)
			}
		})
	}
	wg.Wait()
	wantMemory(t, pid, 64)
	// The control: headers within the limit are accepted.
	wantStatus(t, "headers of 50 KB", harness.Do(t, http.MethodGet, p.URL+"/v2/", "X-Header", strings.Repeat("x", 50_000)), http.StatusOK)
	wantAlive(t, p, "busybox:oci")
}

// TestAttackManyRequests sends requests down one connection and takes none of
// the answers.
func TestAttackManyRequests(t *testing.T) {
	t.Parallel()
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	pid := p.PID
	conn, err := net.Dial("tcp", p.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	requests := strings.Repeat("GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n", 1000)
	taken, unseen := int64(0), kernelHolds(t)
	for err == nil && taken < 2*unseen {
		_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
		var n int
		n, err = io.WriteString(conn, requests)
		taken += int64(n)
	}
	if taken > unseen+harness.MiB {
		t.Errorf("BREACH: %d MiB of requests were taken, and no answer was", taken/harness.MiB)
	}
	wantMemory(t, pid, 128)
	wantAlive(t, p, "busybox:oci")
}
