package attack

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/waveproxy/waveproxy/integration/harness"
)

// TestAttackProxyEnvironment: a proxy that the environment names sees nothing, because it
// would connect where the server must not. It is even a host that may be connected to.
func TestAttackProxyEnvironment(t *testing.T) {
	t.Parallel()
	proxy := newCanary(t)
	settings := map[string]string{
		"WAVEPROXY_REGISTRIES": fmt.Sprintf("{%q: {plain_http: true}, plain.invalid: {plain_http: true}, secure.invalid: {}}", proxy.Host),
		"NO_PROXY":             "", "no_proxy": "",
	}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		settings[name] = proxy.URL
	}
	p := harness.StartProxy(t, "", settings)
	for _, host := range []string{"plain.invalid", "secure.invalid", "unlisted.invalid"} {
		for what, request := range map[string]any{
			"image":   map[string]any{"containerImage": host + "/a:1"},
			"include": map[string]any{"containerImage": "plain.invalid/a:1", "containerIncludes": []string{host + "/b:1"}},
			"layer":   map[string]any{"containerImage": "plain.invalid/a:1", "containerConfig": layerAt("http://" + host + "/layer")},
			"secure":  map[string]any{"containerImage": "plain.invalid/a:1", "containerConfig": layerAt("https://" + host + "/layer")},
		} {
			if r := p.Post(t, submission, request); r.Status == http.StatusOK {
				t.Errorf("BREACH: %s at %s: status %d", what, host, r.Status)
			}
		}
	}
	proxy.wantUntouched(t)
}
