package attack

import (
	"net/http"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/integration/harness"
)

// TestAttackSpellings writes the host of a denied registry in every way that leads
// to the same place: in images, included images, layers and mirrors' requests. The
// same hosts with other ports and names, the control, are not denied.
func TestAttackSpellings(t *testing.T) {
	t.Parallel()
	digest := "sha256:" + strings.Repeat("0", 64)
	p := harness.StartProxy(t, "", map[string]string{
		"WAVEPROXY_UPSTREAMS_DENY":          `[denied.invalid, hub.invalid/secret/*, "192.0.2.1", docker.io/secret/*]`,
		"WAVEPROXY_RECIPES":                 `{tools: {env: [A=b]}}`,
		"WAVEPROXY_UPSTREAMS_STALL_TIMEOUT": "1s",
	})
	wantDenied := func(what string, r harness.Response, want bool) {
		t.Helper()
		if denied := r.Status == http.StatusForbidden && strings.Contains(r.Body, "upstreams.deny"); denied != want {
			t.Errorf("BREACH: %s: denied %v, want %v: %d %s", what, denied, want, r.Status, r.Body)
		}
	}
	for repository, want := range map[string]bool{
		"denied.invalid/a/b": true, "DENIED.invalid/a/b": true, "denied.invalid:443/a/b": true, "denied.invalid:0443/a/b": true,
		"denied.invalid:00443/a/b": true, "denied.invalid:80/a/b": true, "denied.invalid:0080/a/b": true,
		"hub.invalid:0443/secret/b": true, "192.0.2.1:0443/a/b": true, "[::ffff:c000:201]/a/b": true, "[::ffff:c000:201]:0443/a/b": true,
		"registry-1.docker.io/secret/b": true, "registry.hub.docker.com:0443/secret/b": true, "index.docker.io:443/secret/b": true,
		"denied.invalid:5000/a/b": false, "hub.invalid/open/b": false,
	} {
		wantDenied("image "+repository, p.Post(t, submission, map[string]any{"containerImage": repository + ":1"}), want)
		host, path, _ := strings.Cut(repository, "/")
		layer := "docker://" + host + "/v2/" + path + "/blobs/" + digest
		wantDenied("layer "+layer, p.Post(t, submission, map[string]any{"containerImage": "hub.invalid/open/b:1", "containerConfig": layerAt(layer)}), want)
		named := "/v2/wt/tools/" + path + "/manifests/1?ns=" + strings.ReplaceAll(host, ":", "%3A")
		wantDenied("GET "+named, harness.Do(t, "GET", p.URL+named), want)
	}
	for url, want := range map[string]bool{
		"https://denied.invalid/l": true, "https://denied.invalid./l": true, "https://denied.invalid:/l": true, "https://denied.invalid.:0443/l": true,
		"http://denied.invalid:0080/l": true, "https://DENIED.invalid:443/l": true, "https://192.0.2.1:000443/l": true, "https://[::ffff:192.0.2.1]/l": true,
		"https://hub.invalid/l": false, "https://denied.invalid:5000/l": false,
	} {
		wantDenied("URL "+url, p.Post(t, submission, map[string]any{"containerImage": "hub.invalid/open/b:1", "containerConfig": layerAt(url)}), want)
	}
	for _, url := range []string{"https://denied%2einvalid/l", "https://ｄenied.invalid/l", "https://denied。invalid/l", "https://[fe80::1%25eth0]/l", "https://denied.invalid..:443/l"} {
		if r := p.Post(t, submission, map[string]any{"containerImage": "hub.invalid/open/b:1", "containerConfig": layerAt(url)}); r.Status != http.StatusForbidden {
			t.Errorf("BREACH: %s: %d %s", url, r.Status, r.Body)
		}
	}
}
