package upstream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
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
