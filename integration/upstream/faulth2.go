//lint:file-ignore SA1019 net/http's own HTTP/2 server gives no access to its frames.

package upstream

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/net/http2"
)

// NewFaultyTLS is NewFaulty with TLS and HTTP/2. It returns the PEM file of the
// certificate to trust.
func NewFaultyTLS(t testing.TB) (f *Faulty, ca string) {
	t.Helper()
	f = newFaulty()
	f.URL = "https://" + f.Host
	f.server.TLS = &tls.Config{NextProtos: []string{http2.NextProtoTLS}}
	// net/http's own server gives no access to its HTTP/2 connections.
	var h2 http2.Server
	f.server.Config.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){
		http2.NextProtoTLS: func(s *http.Server, conn *tls.Conn, h http.Handler) {
			c := &frames{Conn: conn}
			h2.ServeConn(c, &http2.ServeConnOpts{
				Context: context.WithValue(context.Background(), framesKey{}, c), Handler: h,
				BaseConfig: &http.Server{ErrorLog: discardLog},
			})
		},
	}
	f.serve(t, f.server.StartTLS)
	ca = filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.server.Certificate().Raw})
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return f, ca
}

type framesKey struct{}

// frames is a connection that knows where each sent frame ends, so that a GOAWAY
// frame can be put between two frames.
type frames struct {
	*tls.Conn
	mu      sync.Mutex
	header  []byte // the part of the current frame's header that is sent
	payload int    // bytes of the current frame that are still to be sent
}

const frameHeader = 9 // RFC 9113, section 4.1

func (c *frames) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for rest := p; len(rest) > 0; {
		if c.payload > 0 {
			n := min(c.payload, len(rest))
			c.payload -= n
			rest = rest[n:]
			continue
		}
		n := min(frameHeader-len(c.header), len(rest))
		c.header, rest = append(c.header, rest[:n]...), rest[n:]
		if len(c.header) == frameHeader {
			c.payload = int(c.header[0])<<16 | int(c.header[1])<<8 | int(c.header[2])
			c.header = c.header[:0]
		}
	}
	return c.Conn.Write(p)
}

// end ends the connection and all its streams.
func (c *frames) end(ctx context.Context, k Kind) {
	if k == GoAway {
		c.goAway()
		return
	}
	reset(ctx, c.NetConn())
}

// goAway sends GOAWAY: no stream of the client was processed, although half of
// some bodies is sent, and the connection takes no new streams.
func (c *frames) goAway() {
	frame := make([]byte, frameHeader+8)
	frame[2], frame[3] = 8, byte(http2.FrameGoAway)
	binary.BigEndian.PutUint32(frame[frameHeader+4:], uint32(http2.ErrCodeEnhanceYourCalm))
	for range 1000 {
		c.mu.Lock()
		if between := c.payload == 0 && len(c.header) == 0; between {
			_, _ = c.Conn.Write(frame)
			c.mu.Unlock()
			break
		}
		c.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
	c.Close()
}

// outq returns SIOCOUTQ of tcp(7): the number of bytes that are not acknowledged.
func outq(fd uintptr) int {
	var n int32
	if _, _, err := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&n))); err != 0 {
		return 0
	}
	return int(n)
}
