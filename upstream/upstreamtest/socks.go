package upstreamtest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// NewSOCKS returns a proxy of SOCKS5 (RFC 1928, 1929).
func NewSOCKS(t testing.TB, names map[string]string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{t: t, names: names, addr: listener.Addr().String()}
	var serving sync.WaitGroup
	t.Cleanup(func() { listener.Close(); serving.Wait() })
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if err := p.serveSOCKS(conn); err != nil && !errors.Is(err, io.EOF) {
					t.Log("SOCKS:", err)
				}
			}()
		}
	})
	return p
}

// The answers of SOCKS5.
const (
	granted, notAllowed, hostUnreachable = 0, 2, 4
	noLogin, byPassword, noMethod        = 0, 2, 0xff
)

// field reads a length and so many bytes.
func field(in *bufio.Reader) (string, error) {
	n, err := in.ReadByte()
	if err != nil {
		return "", err
	}
	text := make([]byte, n)
	_, err = io.ReadFull(in, text)
	return string(text), err
}

// greet agrees on a login and takes it. ok is false if it was refused.
func (p *Proxy) greet(conn net.Conn, in *bufio.Reader) (ok bool, err error) {
	if _, err := in.Discard(1); err != nil { // the version
		return false, err
	}
	methods, err := field(in)
	if err != nil {
		return false, err
	}
	method := byte(noLogin)
	if p.Login != "" {
		method = byPassword
	}
	if strings.IndexByte(methods, method) < 0 {
		_, err = conn.Write([]byte{5, noMethod})
		return false, err
	}
	if _, err = conn.Write([]byte{5, method}); err != nil || method == noLogin {
		return err == nil, err
	}
	if _, err := in.Discard(1); err != nil {
		return false, err
	}
	user, err := field(in)
	if err != nil {
		return false, err
	}
	password, err := field(in)
	if err != nil {
		return false, err
	}
	wrong := byte(0)
	if user+":"+password != p.Login {
		wrong = 1
	}
	_, err = conn.Write([]byte{1, wrong})
	return wrong == 0, err
}

// readTarget reads a request to connect, and returns host:port.
func readTarget(in *bufio.Reader) (string, error) {
	var head [4]byte // version, command, reserved, kind of address
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return "", err
	}
	var host string
	var err error
	switch kind := head[3]; kind {
	case 1, 4:
		ip := make(net.IP, map[byte]int{1: net.IPv4len, 4: net.IPv6len}[kind])
		_, err = io.ReadFull(in, ip)
		host = ip.String()
	default:
		host, err = field(in)
	}
	var port [2]byte
	if err == nil {
		_, err = io.ReadFull(in, port[:])
	}
	return net.JoinHostPort(host, strconv.Itoa(int(binary.BigEndian.Uint16(port[:])))), err
}

func (p *Proxy) serveSOCKS(conn net.Conn) error {
	in := bufio.NewReader(conn)
	if ok, err := p.greet(conn, in); !ok {
		return err
	}
	target, err := readTarget(in)
	if err != nil {
		return err
	}
	p.ask("CONNECT " + target)
	answer := func(code byte) error {
		_, err := conn.Write([]byte{5, code, 0, 1, 0, 0, 0, 0, 0, 0})
		return err
	}
	if p.Refuse != nil && p.Refuse(target) != 0 {
		return answer(notAllowed)
	}
	to, err := p.dial(target)
	if err != nil {
		return answer(hostUnreachable)
	}
	if err := answer(granted); err != nil {
		to.Close()
		return err
	}
	join(conn, in, to)
	return nil
}
