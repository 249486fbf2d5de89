package api

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// TestTLS serves with a certificate. A second server uses the first as its
// upstream, and has the first one's private CA in its configuration.
func TestTLS(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	certificate, key, pool := harness.SelfSigned(t)
	settings := harness.DockerHub(reg.URL)
	settings["WAVEPROXY_HTTP_TLS_CERTIFICATE"], settings["WAVEPROXY_HTTP_TLS_KEY"] = certificate, key
	p := harness.StartProxy(t, "", settings)
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
	second := harness.StartProxy(t, "", map[string]string{"WAVEPROXY_REGISTRIES": `{"` + host + `": {ca: "` + certificate + `"}}`})
	a := second.Submit(t, harness.Request{ContainerImage: host + "/wt/" + strings.Repeat("a", 39) + "/library/busybox:oci"})
	if a.Status != http.StatusNotFound {
		t.Errorf("through the trusted CA: status %d, want the 404 that the upstream gives: %s", a.Status, a.Raw)
	}
	ref, err := name.ParseReference(host + "/wt/x/y:z")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Get(ref, remote.WithTransport(transport)); err == nil || !strings.Contains(err.Error(), "NAME_UNKNOWN") {
		t.Errorf("a pull over TLS: %v", err)
	}
}
