package attack

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// elements are bodies whose decoding costs many times their size: "{}," is a layer
// of a hundred bytes.
var elements = map[string]string{
	"layers":   `{"containerImage":"busybox:oci","containerConfig":{"layers":[` + strings.Repeat("{},", 9<<20) + `{}]}}`,
	"env":      `{"containerImage":"busybox:oci","containerConfig":{"env":[` + strings.Repeat(`"",`, 9<<20) + `""]}}`,
	"includes": `{"containerImage":"busybox:oci","containerIncludes":[` + strings.Repeat(`"",`, 9<<20) + `""]}`,
	"arrays":   `{"containerImage":"busybox:oci","packages":[` + strings.Repeat(`[],`, 9<<20) + `[]]}`,
	"nested":   `{"containerImage":"busybox:oci","packages":` + strings.Repeat(`[`, 28<<20),
	"members":  `{"containerImage":"busybox:oci",` + strings.Repeat(`"a":0,`, 4<<20) + `"b":0}`,
}

// TestAttackElements: the elements of a body are counted before it is decoded, and
// where a login is required the body is not even read.
func TestAttackElements(t *testing.T) {
	t.Parallel()
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	open := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	settings := harness.DockerHub(reg.URL)
	settings["WAVEPROXY_API_AUTH"], settings["WAVEPROXY_API_TOKENS"] = "bearer", `{"ci": {"token": "0123456789abcdef"}}`
	closed := harness.StartProxy(t, "", settings)
	for name, body := range elements {
		for _, path := range []string{submission, "/container-token", "/v1alpha1/inspect", "/validate-creds"} {
			r, err := open.Call(t.Context(), http.MethodPost, path, body)
			if err != nil {
				t.Fatalf("BREACH: %s to %s: %v", name, path, err)
			}
			if r.Status != http.StatusRequestEntityTooLarge || !strings.Contains(r.Body, "limits.elements") {
				t.Errorf("%s to %s: status %d %.200s", name, path, r.Status, r.Body)
			}
		}
		// The connection may be reset before the client has read the answer.
		if r, err := closed.Call(t.Context(), http.MethodPost, submission, body); err == nil && r.Status != http.StatusUnauthorized {
			t.Errorf("%s without a login: status %d %.200s", name, r.Status, r.Body)
		}
	}
	wantMemory(t, open.PID, 200) // two bodies of 28 MiB, and the garbage of as many
	wantMemory(t, closed.PID, 80)
	wantAlive(t, open, "busybox:oci")
	wantStatus(t, "a token in the body", closed.Post(t, submission, map[string]any{"containerImage": "busybox:oci", "towerAccessToken": "0123456789abcdef"}), http.StatusOK)
}

// TestAttackInlineBombs: the layers that come with a request have one bound for all
// that they unpack to, and wait on disk.
func TestAttackInlineBombs(t *testing.T) {
	t.Parallel()
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	if _, err := z.Write(make([]byte, 31*harness.MiB)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	layers := make([]harness.Layer, 60)
	for i := range layers {
		layers[i].Location = "gzip:" + base64.StdEncoding.EncodeToString(packed.Bytes())
	}
	wantAlive(t, p, "busybox:oci")
	before := harness.Stored(t, p.Dir)
	for range 3 {
		r := p.Post(t, submission, map[string]any{"containerImage": "busybox:oci", "containerConfig": harness.Config{Layers: layers}})
		wantStatus(t, "60 layers of 31 MiB", r, http.StatusRequestEntityTooLarge)
		harness.WantMessage(t, r.Body, "containerConfig.layers[1]", "33554432 bytes", "api.max_body")
	}
	if after := harness.Stored(t, p.Dir); after != before {
		t.Errorf("BREACH: it left something:\n%s", after)
	}
	wantMemory(t, p.PID, 80)
	one := p.Post(t, submission, map[string]any{"containerImage": "busybox:oci", "containerConfig": harness.Config{Layers: layers[:1]}})
	wantStatus(t, "one of them", one, http.StatusOK)
	wantAlive(t, p, "busybox:oci")
}

// slowBody opens a connection from the address that claims a large body, sends
// some of it and then a byte now and then. It returns the status of the answer, and
// 0 if the context ends first.
func slowBody(ctx context.Context, t *testing.T, host, from, headers string, sent int) (status int) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.DialContext(ctx, "tcp4", host)
	if err != nil {
		if ctx.Err() == nil {
			t.Error(err)
		}
		return 0
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	go func() {
		_, _ = fmt.Fprintf(conn, "POST /v1alpha2/container HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n%s\r\n\r\n", headers)
		_, err := io.WriteString(conn, `{"containerImage":"`+strings.Repeat("x", sent))
		for err == nil {
			time.Sleep(200 * time.Millisecond)
			_, err = io.WriteString(conn, "x")
		}
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestAttackSlowBodies: ninety connections of one client that hold large bodies open
// refuse no other client's request, and end.
func TestAttackSlowBodies(t *testing.T) {
	t.Parallel()
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	statuses := make(chan int, 90)
	var wg sync.WaitGroup
	for i := range 90 {
		wg.Go(func() { statuses <- slowBody(ctx, t, p.Host, "127.0.0.66", "Content-Length: 31457280", i%9*16<<10) })
	}
	refused, ended := 0, 0
	large := map[string]any{"containerImage": "busybox:oci", "containerFile": strings.Repeat("x", 20<<20)}
	for ended < 90 && ctx.Err() == nil {
		wantAlive(t, p, "busybox:oci")
		wantStatus(t, "an honest large body", p.Post(t, submission, large), http.StatusNotImplemented)
		for len(statuses) > 0 {
			ended++
			switch status := <-statuses; status {
			case http.StatusTooManyRequests:
				refused++
			case http.StatusRequestTimeout:
			default:
				t.Errorf("a slow body got status %d", status)
			}
		}
	}
	if ended < 90 || refused < 80 {
		t.Errorf("BREACH: of 90 slow bodies %d ended, %d of them refused at once", ended, refused)
	}
	cancel()
	wg.Wait()
	wantMemory(t, p.PID, 300)
}

// TestAttackClaimedBodies: addresses that claim large bodies and send a byte of each
// leave pulls the memory that they need.
func TestAttackClaimedBodies(t *testing.T) {
	t.Parallel()
	reg := upstream.Registry(t)
	tags := []string{"docker", "oci", "docker-multi", "multi", "zstd", "nohistory", "entry"}
	for _, tag := range tags {
		upstream.Push(t, reg.Host, "busybox:"+tag)
	}
	settings := harness.DockerHub(reg.URL)
	settings["WAVEPROXY_RECIPES"] = `{tools: {env: [A=b]}}`
	p := harness.StartProxy(t, "", settings)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 18 {
		wg.Go(func() {
			for ctx.Err() == nil {
				slowBody(ctx, t, p.Host, fmt.Sprintf("127.0.0.%d", 66+i%9), "Content-Length: 33554432", 0)
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	for _, tag := range tags {
		time.Sleep(200 * time.Millisecond)
		r := harness.Do(t, http.MethodGet, p.URL+"/v2/wt/tools/library/busybox/manifests/"+tag)
		wantStatus(t, "a pull of "+tag+" beside claimed bodies", r, http.StatusOK)
	}
	cancel()
	wg.Wait()
}

// TestAttackManyBodies has many clients send bodies of the largest allowed size,
// all but the last byte.
func TestAttackManyBodies(t *testing.T) {
	t.Parallel()
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			slowBody(ctx, t, p.Host, fmt.Sprintf("127.0.0.%d", 66+i%2), fmt.Sprint("Content-Length: ", 31*harness.MiB+100), 31*harness.MiB)
		})
	}
	for ctx.Err() == nil {
		wantAlive(t, p, "busybox:oci")
		time.Sleep(200 * time.Millisecond)
	}
	wg.Wait()
	wantMemory(t, p.PID, 400)
}

// TestAttackOtherPages: a page in a browser cannot use a server without logins: not
// by a form, and not under a name of its own that leads to the server's address.
func TestAttackOtherPages(t *testing.T) {
	t.Parallel()
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	_, port, err := net.SplitHostPort(p.Host)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(host, contentType string) harness.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.URL+submission, strings.NewReader(`{"containerImage":"busybox:oci"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		if contentType != "" {
			req.Header.Set("Content-Type", contentType)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return harness.Response{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}
	}
	for _, contentType := range []string{"text/plain", "application/x-www-form-urlencoded", ""} {
		wantStatus(t, "content type "+contentType, ask(p.Host, contentType), http.StatusUnsupportedMediaType)
	}
	for _, host := range []string{"evil.example:" + port, "evil.example", "localhost.evil.example:" + port} {
		r := ask(host, "application/json")
		wantStatus(t, "host "+host, r, http.StatusMisdirectedRequest)
		harness.WantMessage(t, r.Body, "http.host")
	}
	for _, host := range []string{p.Host, "localhost:" + port, "127.0.0.1", "[::1]:" + port, "waveproxy"} {
		wantStatus(t, "host "+host, ask(host, "application/json"), http.StatusOK)
	}
}
