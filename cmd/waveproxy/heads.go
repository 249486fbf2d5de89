package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
)

// Before a request can be charged, net/http and crypto/tls have made maps and slices of
// what came, which take up to sixteen times its bytes.
const (
	// maxHeadLines bounds the lines of a request's headers. It is more than package front
	// takes, so that whoever is slightly above that is told the reason.
	maxHeadLines = 160
	// maxHello bounds what a client sends before its greeting is whole, in bytes. Real ones
	// have less than 3 KiB.
	maxHello = 8 << 10
)

var (
	errHeadLines = errors.New("the request has too many lines of headers")
	errTrailer   = errors.New("the request announces trailers")
	errHello     = errors.New("the greeting of TLS is too long")
)

// headListener bounds what its connections send before there is a request.
type headListener struct {
	net.Listener
	tls   *tls.Config // nil: plain connections
	http2 bool        // net/http does the handshake, and lines of HTTP/1.1 are not counted
}

func (l *headListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	tcp, ok := conn.(*net.TCPConn)
	switch {
	case err != nil || !ok:
		return conn, err
	case l.tls == nil:
		return &plainConn{TCPConn: tcp}, nil
	}
	hello := &helloConn{TCPConn: tcp}
	if l.http2 {
		return hello, nil
	}
	return &tlsConn{Conn: tls.Server(hello, l.tls)}, nil
}

// headLines follows the headers of requests.
type headLines struct {
	lines atomic.Int32 // that have come; -1: the headers are whole
	line  []byte       // as it begins
}

// trailer begins a header of which net/http makes a map that lasts as long as the
// connection.
const trailer = "trailer:"

// begin begins with the next request.
func (h *headLines) begin() { h.lines.Store(0) }

// follow looks at bytes that were read. An error is errHeadLines or errTrailer.
func (h *headLines) follow(p []byte) error {
	n := h.lines.Load()
	for _, b := range p {
		if n < 0 {
			return nil
		}
		if b != '\n' {
			if len(h.line) < len(trailer) {
				if h.line = append(h.line, b); strings.EqualFold(string(h.line), trailer) {
					return errTrailer
				}
			}
			continue
		}
		if n++; n > maxHeadLines {
			return errHeadLines
		}
		if isEmpty := len(h.line) == 0 || string(h.line) == "\r"; isEmpty && n > 1 {
			n = -1
		}
		h.line = h.line[:0]
		h.lines.Store(n)
	}
	return nil
}

// plainConn bounds the lines of headers. What else a TCPConn can do it can do, too:
// sendfile needs it.
type plainConn struct {
	*net.TCPConn
	headLines
}

func (c *plainConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if many := c.follow(p[:n]); many != nil {
		return 0, many
	}
	return n, err
}

// helloConn bounds what comes before the end of TLS' greeting.
type helloConn struct {
	*net.TCPConn
	read   int64
	passed atomic.Bool
}

func (c *helloConn) Read(p []byte) (int, error) {
	if c.passed.Load() {
		return c.TCPConn.Read(p)
	}
	left := maxHello - c.read
	if left <= 0 {
		return 0, errHello
	}
	n, err := c.TCPConn.Read(p[:min(int64(len(p)), left)])
	c.read += int64(n)
	return n, err
}

// greeted is the GetConfigForClient of a tls.Config: the greeting is whole.
func greeted(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if c, ok := hello.Conn.(*helloConn); ok {
		c.passed.Store(true)
	}
	return nil, nil
}

// tlsConn bounds the lines of headers that come over TLS.
type tlsConn struct {
	*tls.Conn
	headLines
	shaken bool
}

func (c *tlsConn) Read(p []byte) (int, error) {
	if !c.shaken {
		if err := c.HandshakeContext(context.Background()); err != nil { // the deadline for headers holds
			tellPlain(err)
			return 0, err
		}
		c.shaken = true
	}
	n, err := c.Conn.Read(p)
	if many := c.follow(p[:n]); many != nil {
		return 0, many
	}
	return n, err
}

// tellPlain answers a client that speaks HTTP without TLS.
func tellPlain(err error) {
	e, ok := errors.AsType[tls.RecordHeaderError](err)
	if !ok || e.Conn == nil {
		return
	}
	switch string(e.RecordHeader[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "PATCH", "DELET":
		_, _ = io.WriteString(e.Conn, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"+
			"this server speaks HTTPS only, and the request is for http://\n")
	}
}
