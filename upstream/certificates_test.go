package upstream

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

// signed returns a certificate for 127.0.0.1 that an authority signed; nil: its own key.
func signed(t testing.TB, template *x509.Certificate, authority *x509.Certificate, signer *ecdsa.PrivateKey) (der []byte, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	made := *template
	made.SerialNumber = big.NewInt(time.Now().UnixNano())
	made.NotBefore, made.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	made.Subject = pkix.Name{CommonName: fmt.Sprint(made.SerialNumber)}
	made.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	if authority == nil {
		authority, signer = &made, key
	}
	if der, err = x509.CreateCertificate(rand.Reader, &made, authority, key.Public(), signer); err != nil {
		t.Fatal(err)
	}
	return der, key
}

// chain is a certificate that signs itself, and more of them beside it.
func chain(t testing.TB, template *x509.Certificate, more int) tls.Certificate {
	t.Helper()
	der, key := signed(t, template, nil, nil)
	all := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	for range more {
		der, _ := signed(t, template, nil, nil)
		all.Certificate = append(all.Certificate, der)
	}
	return all
}

// authority writes a certificate authority to a file.
func authority(t *testing.T) (file string, ca *x509.Certificate, key *ecdsa.PrivateKey) {
	t.Helper()
	der, key := signed(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, ca, key
}

// nameless has a name in three bytes on the wire, and in sixteen and more once it is parsed.
func nameless(n int) *x509.Certificate {
	names := bytes.Repeat([]byte{0x82, 0x01, 'a'}, n)
	value, _ := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: names})
	return &x509.Certificate{ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}}}
}

// TestLongHandshakes: a host may have a chain of certificates with many names. What it sends
// beyond that is not parsed.
func TestLongHandshakes(t *testing.T) {
	file, ca, caKey := authority(t)
	leaf, key := signed(t, &x509.Certificate{}, ca, caKey)
	names := make([]string, 100)
	for i := range names {
		names[i] = fmt.Sprintf("a-rather-long-name-%04d.example.com", i)
	}
	wide, wideKey := signed(t, &x509.Certificate{DNSNames: names}, ca, caKey)
	for name, test := range map[string]struct {
		chain tls.Certificate
		long  bool
	}{
		"one":                        {tls.Certificate{Certificate: [][]byte{leaf}, PrivateKey: key}, false},
		"a chain of four, 100 names": {beside(t, wide, wideKey, &x509.Certificate{DNSNames: names[:30]}, 3), false},
		"250 KiB of names":           {beside(t, leaf, key, nameless(20_000), 4), true},
		"one of 60 KiB":              {beside(t, leaf, key, nameless(20_000), 1), true},
		"hundreds of small ones":     {beside(t, leaf, key, &x509.Certificate{}, 300), true},
		"untrusted, 120 KiB":         {chain(t, nameless(20_000), 1), true},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			for _, protocol := range []string{"h2", "http/1.1"} {
				s := startServer(t, serveManifest, func(s *httptest.Server) {
					s.EnableHTTP2 = protocol == "h2"
					s.TLS = &tls.Config{Certificates: []tls.Certificate{test.chain}, MaxVersion: version, NextProtos: []string{protocol}}
					s.StartTLS()
				})
				c, _ := newClient(t, Options{Registries: map[string]Registry{"example.org": {URL: s.URL, CA: file}}})
				for range 2 { // the second request reuses the connection
					_, err := c.Repository(image).Manifest(t.Context(), "1.0")
					if test.long {
						wantError(t, err, Untrusted, "its certificates take more than 32 KiB")
					} else if err != nil {
						t.Errorf("%s, %x, %s: %v", name, version, protocol, err)
					}
				}
			}
		}
	}
}

// beside is a certificate with others that nothing needs.
func beside(t *testing.T, leaf []byte, key *ecdsa.PrivateKey, template *x509.Certificate, n int) tls.Certificate {
	all := chain(t, template, n-1)
	return tls.Certificate{Certificate: append([][]byte{leaf}, all.Certificate...), PrivateKey: key}
}

// TestCertificatesAreForgotten: a connection keeps no certificates, in any version of TLS and
// with any key, and works.
func TestCertificatesAreForgotten(t *testing.T) {
	file, ca, caKey := authority(t)
	roots, err := addCA(nil, nil, file)
	if err != nil {
		t.Fatal(err)
	}
	leaf, key := signed(t, &x509.Certificate{}, ca, caKey)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	rsaLeaf, err := x509.CreateCertificate(rand.Reader, template, ca, rsaKey.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, certificate := range map[string]tls.Certificate{
		"ECDSA": beside(t, leaf, key, nameless(1000), 2),
		"RSA":   {Certificate: [][]byte{rsaLeaf, ca.Raw}, PrivateKey: rsaKey},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			client, server := net.Pipe()
			done := make(chan error, 1)
			go func() {
				done <- tls.Server(server, &tls.Config{Certificates: []tls.Certificate{certificate}, MaxVersion: version}).Handshake()
			}()
			conn := tls.Client(client, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", VerifyConnection: forgetCertificates})
			if err := conn.Handshake(); err != nil {
				t.Errorf("%s, %x: %v", name, version, err)
			}
			if err := <-done; err != nil {
				t.Errorf("%s, %x, the server: %v", name, version, err)
			}
			state := conn.ConnectionState()
			if n := weight(reflect.ValueOf(state.PeerCertificates), map[uintptr]bool{}) + weight(reflect.ValueOf(state.VerifiedChains), map[uintptr]bool{}); n > 4<<10 || len(state.PeerCertificates) == 0 {
				t.Errorf("%s, %x: the connection keeps %d bytes of certificates", name, version, n)
			}
			client.Close()
			server.Close()
		}
	}
	s := newServer(t, serveManifest)
	c, _ := newClient(t, listed(s))
	for _, all := range []transports{direct(c, false, ""), direct(c, true, "")} {
		for _, transport := range []*http.Transport{all.short, all.long} {
			if transport.TLSClientConfig.VerifyConnection == nil || transport.MaxIdleConns > 512 || transport.MaxIdleConnsPerHost > 64 {
				t.Errorf("a transport keeps certificates, or %d connections", transport.MaxIdleConns)
			}
		}
	}
	if strangers := direct(c, false, "").long; strangers.MaxIdleConns > 128 || strangers.MaxIdleConnsPerHost > 32 || strangers.IdleConnTimeout > 30*time.Second {
		t.Errorf("%d connections to strangers are kept for %s", strangers.MaxIdleConns, strangers.IdleConnTimeout)
	}
}
