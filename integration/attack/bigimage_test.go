package attack

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/integration/harness"
)

// asking opens a connection with a small receive buffer, sends the text, and never reads.
func asking(t *testing.T, host, text string) {
	t.Helper()
	// Segments as on a network: on loopback they are so large that the kernel takes a
	// megabyte of any answer.
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1400)
			_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096)
		})
	}}
	conn, err := dialer.Dial("tcp", host)
	if err != nil {
		t.Error(err)
		return
	}
	t.Cleanup(func() { conn.Close() })
	_, _ = io.WriteString(conn, text) // the server may refuse it
}

// bigImage serves an image of one layer of size zero bytes, of any digest.
type bigImage struct {
	config, manifest []byte
	layer            string
	size             int
	blob             http.HandlerFunc
}

func newBigImage(t *testing.T, size int, blob http.HandlerFunc) *bigImage {
	t.Helper()
	diff := harness.Sum([]byte("diff"))
	config := fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[%q]}}`, diff)
	b := &bigImage{config: config, layer: harness.Sum([]byte("a layer " + t.Name())), size: size, blob: blob}
	b.manifest = manifestOf(t, described{configType, harness.Sum(config), len(config), nil}, described{layerType, b.layer, size, nil})
	return b
}

func (b *bigImage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.Path; {
	case strings.Contains(path, "/manifests/"):
		w.Header().Set("Content-Type", manifestType)
		_, _ = w.Write(b.manifest)
	case strings.HasSuffix(path, harness.Sum(b.config)):
		_, _ = w.Write(b.config)
	case strings.HasSuffix(path, b.layer):
		b.blob(w, r)
	}
}

// submit returns the URL of the layer of an image made of this one.
func (b *bigImage) submit(t *testing.T, p *harness.Proxy, host string) string {
	t.Helper()
	a := p.Augment(t, fmt.Sprintf(`{"containerImage": "%s/big:x", "containerConfig": {"env": ["A=b"]}}`, host))
	return p.URL + "/v2/wt/" + a.ContainerToken + "/big/blobs/" + b.layer
}

// get is the text of a request for the URL, with headers.
func get(of string, header ...string) string {
	u, err := url.Parse(of)
	if err != nil {
		panic(err)
	}
	text := "GET " + u.Path + " HTTP/1.1\r\nHost: a\r\n"
	for i := 0; i+1 < len(header); i += 2 {
		text += header[i] + ": " + header[i+1] + "\r\n"
	}
	return text + "\r\n"
}

// endlessBlobs is a registry that sends the first bytes of its layer, with long headers, and
// no more.
func endlessBlobs(t *testing.T, asked *atomic.Int32) (image *bigImage, host string) {
	image = newBigImage(t, 1<<30, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("X-Long", strings.Repeat("x", 15<<10)) // nearly as long as they may be
		_, _ = w.Write(make([]byte, 16<<10))                  // more than buffers on the way keep back
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	registry := httptest.NewServer(image)
	registry.Config.ErrorLog = quiet
	t.Cleanup(registry.Close)
	t.Cleanup(registry.CloseClientConnections)
	return image, strings.TrimPrefix(registry.URL, "http://")
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// firstByte returns how long the first byte of a blob takes for the client's address.
func firstByte(ctx context.Context, url, client string) (time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("X-Forwarded-For", client)
	begun := time.Now()
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return time.Since(begun), err
	}
	defer resp.Body.Close()
	_, err = resp.Body.Read(make([]byte, 1))
	if resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", resp.Status)
	}
	return time.Since(begun), err
}
