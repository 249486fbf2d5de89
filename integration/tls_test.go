package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/waveproxy/waveproxy/integration/upstream"
)

// TestTLS serves with a certificate, and reaches an upstream through another
// proxy of ours whose private CA is configured for it.
func TestTLS(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	certificate, key, pool := selfSigned(t)
	settings := hub(reg.URL)
	settings["WAVEPROXY_HTTP_TLS_CERTIFICATE"], settings["WAVEPROXY_HTTP_TLS_KEY"] = certificate, key
	p := startProxy(t, "", settings)
	if !strings.HasPrefix(p.URL, "https://localhost:") {
		t.Fatalf("the server says it is at %s", p.URL)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	body := strings.NewReader(`{"containerImage": "busybox:oci", "containerConfig": {"env": ["A=b"]}}`)
	resp, err := (&http.Client{Transport: transport}).Post(p.URL+"/v1alpha2/container", "application/json", body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("submit: %s", resp.Status)
	}

	host := strings.TrimPrefix(p.URL, "https://")
	second := startProxy(t, "", map[string]string{"WAVEPROXY_REGISTRIES": `{"` + host + `": {ca: "` + certificate + `"}}`})
	a := second.submit(t, request{ContainerImage: host + "/wt/" + strings.Repeat("a", 39) + "/library/busybox:oci"})
	if a.status != http.StatusNotFound {
		t.Errorf("through the trusted CA: status %d, want the 404 that the upstream gives: %s", a.status, a.raw)
	}
	ref, err := name.ParseReference(host + "/wt/x/y:z")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Get(ref, remote.WithTransport(transport)); err == nil || !strings.Contains(err.Error(), "NAME_UNKNOWN") {
		t.Errorf("a pull over TLS: %v", err)
	}
}

func selfSigned(t *testing.T) (certificate, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	dir := t.TempDir()
	certificate, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pool.AppendCertsFromPEM(public)
	for name, data := range map[string][]byte{certificate: public, key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificate, key, pool
}
