package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writePair writes a new certificate of that name, and its key.
func writePair(t *testing.T, cert, key, name string, at time.Time) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCertificateReload(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	now := time.Now()
	writePair(t, cert, key, "first", now.Add(-time.Hour))
	var log bytes.Buffer
	c, err := newCertificate(cert, key, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	want := func(name string) {
		t.Helper()
		c.looked = time.Time{}
		pair, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(pair.Certificate[0])
		if err != nil || leaf.Subject.CommonName != name {
			t.Errorf("certificate of %s, %v; want of %s", leaf.Subject.CommonName, err, name)
		}
	}
	want("first")
	writePair(t, cert, key, "second", now.Add(-time.Minute))
	want("second")
	// While a pair is being replaced its halves do not fit.
	half := filepath.Join(dir, "half")
	writePair(t, cert, half, "third", now)
	want("second")
	want("second")
	if got := strings.Count(log.String(), "keeping the previous one"); got != 1 {
		t.Errorf("logged %d times:\n%s", got, &log)
	}
	if err := os.Rename(half, key); err != nil {
		t.Fatal(err)
	}
	want("third")
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	want("third")
	if _, err := newCertificate(cert, key, slog.Default()); err == nil || !strings.Contains(err.Error(), "http.tls") {
		t.Errorf("a missing certificate: %v", err)
	}
}
