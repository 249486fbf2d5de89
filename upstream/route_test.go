package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// A certificate of a client is shown to its registry, through a proxy, too, and to no
// other host.
func TestClientCertificate(t *testing.T) {
	cert, key := clientPair(t)
	var shown []string
	s := upstreamtest.NewUnstarted(t)
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	s.Answer(func(w http.ResponseWriter, r *http.Request) {
		shown = append(shown, fmt.Sprintf("%s %d", r.Host, len(r.TLS.PeerCertificates)))
		switch r.URL.Path {
		case "/leads":
			http.Redirect(w, r, "https://registry.example.com/led", http.StatusFound)
			return
		case "/led":
			return
		}
		if r.Host == "registry.example.com" && r.URL.Path != manifestPath {
			http.Redirect(w, r, "https://blobs.example.com/x", http.StatusTemporaryRedirect)
			return
		}
		serveManifest(w, r)
	})
	s.StartTLS()
	names := map[string]string{"registry.example.com:443": s.Host(), "blobs.example.com:443": s.Host()}
	p := upstreamtest.NewProxy(t, names, (*httptest.Server).Start)
	c, _ := newClient(t, Options{
		Proxy: Proxy{URL: "http://" + p.Addr()}, CA: certificate(t, s),
		Registries: map[string]Registry{"registry.example.com": {ClientCert: cert, ClientKey: key}},
	})
	public(t, c)
	wantManifest(t, c, proxied)
	body, err := c.Repository(proxied).Layer(t.Context(), ocispec.Descriptor{Digest: digest.FromBytes(manifestBody), Size: int64(len(manifestBody))})
	if err != nil {
		t.Fatal(err)
	}
	body.Close()
	// A host that leads to the registry does not get what the certificate opens.
	led, _, err := c.Fetch(t.Context(), "https://blobs.example.com/leads")
	if err != nil {
		t.Fatal(err)
	}
	led.Close()
	if want := []string{"registry.example.com 1", "registry.example.com 1", "blobs.example.com 0", "blobs.example.com 0", "registry.example.com 0"}; !slices.Equal(shown, want) {
		t.Errorf("shown %q, want %q", shown, want)
	}
}

// clientPair writes a certificate and its key: those of the test's servers will do.
func clientPair(t *testing.T) (cert, key string) {
	t.Helper()
	s := startServer(t, serveManifest, (*httptest.Server).StartTLS)
	der, err := x509.MarshalPKCS8PrivateKey(s.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	key = filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return certificate(t, s), key
}

// Renew takes files that have changed, and keeps what it has when one is bad.
func TestRenew(t *testing.T) {
	s := startServer(t, serveManifest, (*httptest.Server).StartTLS)
	ca := certificate(t, s)
	good, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Registries: map[string]Registry{"example.org": {URL: s.URL}}}
	c, _ := newClient(t, o)
	wantError(t, manifestError(t, c, image), Untrusted)
	o.Registries["example.org"] = Registry{URL: s.URL, CA: ca}
	if err := c.Renew(o); err != nil {
		t.Fatal(err)
	}
	wantManifest(t, c, image)
	if err := os.WriteFile(ca, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Renew(o); err == nil {
		t.Error("a file without a certificate is taken")
	}
	c.CloseIdleConnections()
	wantManifest(t, c, image)
	if err := os.WriteFile(ca, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Renew(o); err != nil {
		t.Error(err)
	}
	wantManifest(t, c, image)
}
