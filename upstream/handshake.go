package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync/atomic"
)

// maxHandshake bounds what a host sends until TLS is set up, in bytes. Chains of four
// certificates with a hundred names have 10 KiB, and crypto/tls would take 256 KiB. It parses
// them before any hook is called, into ten times as much.
const maxHandshake = 32 << 10

// errLongHandshake begins as the errors of crypto/tls do, so that it is taken for one.
var errLongHandshake = errors.New("tls: the host sends more than 32 KiB before TLS is set up")

// shortHandshake returns a dialer whose connections end when the host sends too much before
// TLS is set up.
func shortHandshake(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &handshakeConn{Conn: conn}, nil
	}
}

// handshakeConn counts what arrives from the first record of TLS that is sent on, until
// data of the application is sent. What is said to a proxy before is in clear, and so is a
// connection without TLS: their bytes do not begin like a record.
type handshakeConn struct {
	net.Conn
	begun, ended atomic.Bool
	arrived      int // one goroutine reads
}

// The first byte of a record of TLS (RFC 8446, section 5.1).
const (
	recordHandshake   = 22
	recordApplication = 23
)

func (c *handshakeConn) Write(p []byte) (int, error) {
	if len(p) > 0 && !c.ended.Load() {
		switch p[0] {
		case recordHandshake:
			c.begun.Store(true)
		case recordApplication:
			c.ended.Store(c.begun.Load())
		}
	}
	return c.Conn.Write(p)
}

func (c *handshakeConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.begun.Load() && !c.ended.Load() {
		if c.arrived += n; c.arrived > maxHandshake {
			return 0, errLongHandshake
		}
	}
	return n, err
}

// forgetCertificates is a tls.Config.VerifyConnection. It drops the certificates, which
// have been verified, because the connection would keep them as long as it is open: those
// that it does not need, too. The state shares its slices with the connection, which uses
// nothing but the key of the first one from then on.
func forgetCertificates(state tls.ConnectionState) error {
	for i, c := range state.PeerCertificates {
		state.PeerCertificates[i] = &x509.Certificate{}
		if i == 0 {
			state.PeerCertificates[i].PublicKey, state.PeerCertificates[i].PublicKeyAlgorithm = c.PublicKey, c.PublicKeyAlgorithm
		}
	}
	clear(state.VerifiedChains)
	clear(state.SignedCertificateTimestamps)
	return nil
}
