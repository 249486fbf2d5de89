//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// stallTimeout is how long a server may send nothing before it counts as failed.
const stallTimeout = 30 * time.Second

// drain is one connection of a client that has the kernel throw away the bytes it
// receives, without copying them. Not safe for concurrent use.
type drain struct {
	l         *lab
	server    *server
	conn      *net.TCPConn
	raw       syscall.RawConn
	buffer    [4096]byte
	delivered *atomic.Int64 // bytes of bodies, of all connections of a load
}

func (l *lab) newDrain(s *server, delivered *atomic.Int64) *drain {
	return &drain{l: l, server: s, delivered: delivered}
}

func (d *drain) close() {
	if d.conn != nil {
		d.conn.Close()
		d.conn = nil
	}
}

func (d *drain) dial(ctx context.Context) error {
	conn, err := (&net.Dialer{Timeout: stallTimeout}).DialContext(ctx, "tcp", d.server.address())
	if err != nil {
		return err
	}
	d.conn = conn.(*net.TCPConn)
	d.raw, err = d.conn.SyscallConn()
	return err
}

// get takes a blob and returns when the answer began to arrive. Over plain HTTP
// the connection is kept for the next one.
func (d *drain) get(ctx context.Context, repository string, l layer) (firstByte time.Duration, err error) {
	if d.conn == nil {
		if err := d.dial(ctx); err != nil {
			return 0, err
		}
	}
	// The end of the load also ends a read that waits.
	conn := d.conn
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if strings.HasPrefix(d.server.base, "https:") {
		firstByte, err = d.getTLS(ctx, repository, l)
	} else {
		firstByte, err = d.getPlain(repository, l)
	}
	if err != nil {
		return 0, fmt.Errorf("GET %s: %w", blobPath(repository, l), err)
	}
	return firstByte, nil
}

func request(repository string, l layer, more string) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\n%s\r\n", blobPath(repository, l), more)
}

func (d *drain) getPlain(repository string, l layer) (time.Duration, error) {
	start := time.Now()
	if _, err := d.conn.Write(request(repository, l, "")); err != nil {
		return 0, err
	}
	_ = d.conn.SetReadDeadline(time.Now().Add(stallTimeout))
	n, err := readHeader(d.conn, d.buffer[:], l.Size)
	if err != nil {
		return 0, err
	}
	firstByte := time.Since(start)
	d.delivered.Add(int64(n))
	return firstByte, d.discard(l.Size - int64(n))
}

// getTLS reads the header as any client does, and throws away the remaining records
// without decrypting them, because decrypting is the client's work and not the
// server's. The answer ends with the connection.
func (d *drain) getTLS(ctx context.Context, repository string, l layer) (time.Duration, error) {
	defer d.close()
	_ = d.conn.SetDeadline(time.Now().Add(stallTimeout))
	counted := &countedConn{TCPConn: d.conn}
	config := d.l.client.Transport.(*http.Transport).TLSClientConfig.Clone()
	config.ServerName, config.NextProtos = "localhost", []string{"http/1.1"}
	conn := tls.Client(counted, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return 0, err
	}
	start, handshake := time.Now(), counted.read
	if _, err := conn.Write(request(repository, l, "Connection: close\r\n")); err != nil {
		return 0, err
	}
	if _, err := readHeader(conn, d.buffer[:], l.Size); err != nil {
		return 0, err
	}
	firstByte := time.Since(start)
	begun := counted.read - handshake
	d.delivered.Add(begun)
	rest, err := d.discardAll()
	if err != nil {
		return 0, err
	}
	// A record has 22 bytes more than its content, which may be as short as 1,200 bytes.
	if sent := begun + rest; sent < l.Size || sent > l.Size+l.Size/50+16<<10 {
		return 0, fmt.Errorf("%d bytes of TLS records for a blob of %d", sent, l.Size)
	}
	return firstByte, nil
}

// countedConn counts the bytes that are read from a connection.
type countedConn struct {
	*net.TCPConn
	read int64
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	c.read += int64(n)
	return n, err
}

// readHeader reads a response's header, which must promise a body of size
// bytes, and returns how many of them came with it.
func readHeader(r io.Reader, buffer []byte, size int64) (int, error) {
	n := 0
	for {
		m, err := r.Read(buffer[n:])
		n += m
		if end := bytes.Index(buffer[:n], []byte("\r\n\r\n")); end >= 0 {
			return n - end - 4, checkHeader(string(buffer[:end]), size)
		}
		if err != nil {
			return 0, err
		}
		if n == len(buffer) {
			return 0, errors.New("the header does not end")
		}
	}
}

func checkHeader(header string, size int64) error {
	lines := strings.Split(header, "\r\n")
	if !strings.HasPrefix(lines[0], "HTTP/1.1 200 ") {
		return errors.New(lines[0])
	}
	for _, line := range lines[1:] {
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "Content-Length") {
			if strings.TrimSpace(value) != strconv.FormatInt(size, 10) {
				return fmt.Errorf("the header promises %s bytes of %d", value, size)
			}
			return nil
		}
	}
	return errors.New("the header has no Content-Length")
}

// discard throws away exactly n bytes.
func (d *drain) discard(n int64) error {
	for n > 0 {
		_ = d.conn.SetReadDeadline(time.Now().Add(stallTimeout))
		got, err := d.receive(n)
		if err != nil {
			return err
		}
		if got == 0 {
			return fmt.Errorf("%d bytes short: %w", n, io.ErrUnexpectedEOF)
		}
		n -= got
	}
	return nil
}

// discardAll throws away all bytes until the server closes the connection.
func (d *drain) discardAll() (n int64, err error) {
	for {
		_ = d.conn.SetReadDeadline(time.Now().Add(stallTimeout))
		got, err := d.receive(1 << 40)
		n += got
		if got == 0 || err != nil {
			return n, err
		}
	}
}

// receive waits for bytes and throws away at most limit of them, and at most a
// mebibyte. MSG_TRUNC has TCP do that; see tcp(7).
func (d *drain) receive(limit int64) (int64, error) {
	var got uintptr
	var errno syscall.Errno
	err := d.raw.Read(func(fd uintptr) bool {
		for {
			got, _, errno = syscall.Syscall6(syscall.SYS_RECVFROM, fd, 0, uintptr(min(limit, 1<<20)), syscall.MSG_TRUNC, 0, 0)
			if errno != syscall.EINTR {
				return errno != syscall.EAGAIN
			}
		}
	})
	if err != nil {
		return 0, err
	}
	if errno != 0 {
		return 0, errno
	}
	d.delivered.Add(int64(got))
	return int64(got), nil
}
