package attack

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// network answers at ports 80 and 443 of every address, and for DNS, in a network
// namespace of its own.
type network struct {
	CA string // PEM file that vouches for all hosts

	mu      sync.Mutex
	hosts   map[netip.Addr]http.Handler // the server may connect to these
	visited map[netip.AddrPort]int      // every other place that saw a connection
	names   map[string]func() []string  // DNS: the addresses of a name, asked each time
}

type hereKey struct{}

func newNetwork(t *testing.T) *network {
	t.Helper()
	w := &network{hosts: map[netip.Addr]http.Handler{}, visited: map[netip.AddrPort]int{}, names: map[string]func() []string{}}
	certificate := w.certify(t)
	for _, port := range []string{":80", ":443"} {
		l, err := net.Listen("tcp", port)
		if err != nil {
			t.Fatal(err)
		}
		var counted net.Listener = &countedListener{l, w}
		if port == ":443" {
			counted = tls.NewListener(counted, &tls.Config{Certificates: []tls.Certificate{certificate}})
		}
		server := &http.Server{
			Handler:  http.HandlerFunc(w.serve),
			ErrorLog: quiet, // half of the clients refuse the certificate
			ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
				return context.WithValue(ctx, hereKey{}, place(conn))
			},
		}
		server.SetKeepAlivesEnabled(false) // a name is looked up for every request
		go func() { _ = server.Serve(counted) }()
		t.Cleanup(func() { server.Close() })
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go w.resolve(conn)
	return w
}

func place(conn net.Conn) netip.AddrPort {
	at := conn.LocalAddr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())
}

type countedListener struct {
	net.Listener
	network *network
}

func (l *countedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.network.mu.Lock()
		if at := place(conn); l.network.hosts[at.Addr()] == nil {
			l.network.visited[at]++
		}
		l.network.mu.Unlock()
	}
	return conn, err
}

// host adds a host that the server may connect to.
func (w *network) host(addr string, h http.Handler) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hosts[netip.MustParseAddr(addr)] = h
}

// name adds a name to DNS.
func (w *network) name(name string, addresses ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names[name] = func() []string { return addresses }
}

// rebind adds a name to DNS that resolves to first at the first lookup, and to
// then afterwards.
func (w *network) rebind(name, first, then string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked := 0
	w.names[name] = func() []string {
		if asked++; asked <= 2 { // A and AAAA
			return []string{first}
		}
		return []string{then}
	}
}

func (w *network) serve(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	h := w.hosts[r.Context().Value(hereKey{}).(netip.AddrPort).Addr()]
	w.mu.Unlock()
	if h != nil {
		h.ServeHTTP(rw, r)
	}
}

// intruded returns the forbidden places that saw a connection since the last
// call. Listeners accept in order: when a connection made now has been seen,
// all earlier ones have been, too.
func (w *network) intruded(t *testing.T) map[netip.AddrPort]int {
	t.Helper()
	for _, port := range []string{"80", "443"} {
		marker := net.JoinHostPort("198.18.0.1", port)
		conn, err := net.Dial("tcp", marker)
		if err != nil {
			t.Fatal(err)
		}
		for seen := false; !seen; time.Sleep(100 * time.Microsecond) {
			w.mu.Lock()
			if _, seen = w.visited[netip.MustParseAddrPort(marker)]; seen {
				delete(w.visited, netip.MustParseAddrPort(marker))
			}
			w.mu.Unlock()
		}
		conn.Close()
	}
	return w.visitors()
}

// visitors is intruded without the wait for connections that are being made.
func (w *network) visitors() map[netip.AddrPort]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	visited := w.visited
	w.visited = map[netip.AddrPort]int{}
	return visited
}

// resolve is the DNS server.
func (w *network) resolve(conn net.PacketConn) {
	packet := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFrom(packet)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(packet[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		m.Response, m.Additionals = true, nil
		q := m.Questions[0]
		name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
		w.mu.Lock()
		var addresses []string
		known := w.names[name]
		if known != nil {
			addresses = known()
		}
		w.mu.Unlock()
		if known == nil {
			m.RCode = dnsmessage.RCodeNameError
		}
		for _, a := range addresses {
			addr := netip.MustParseAddr(a)
			header := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}
			if addr.Is4() && q.Type == dnsmessage.TypeA {
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: addr.As4()}})
			}
			if addr.Is6() && q.Type == dnsmessage.TypeAAAA {
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}})
			}
		}
		if data, err := m.Pack(); err == nil {
			_, _ = conn.WriteTo(data, from)
		}
	}
}

// certify makes a certificate for the hosts that are reached over TLS.
func (w *network) certify(t *testing.T) tls.Certificate {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "example"},
		DNSNames:  []string{"*.example.com", "*.example.net"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	w.CA = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(w.CA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}
}
