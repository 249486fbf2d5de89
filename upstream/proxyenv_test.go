package upstream

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/auth"
)

// proxyVariables are how programs are told of a proxy.
var proxyVariables = []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"}

// TestNoProxyFromEnvironment runs in a process of its own, because net/http reads
// these variables once.
func TestNoProxyFromEnvironment(t *testing.T) {
	if proxy := os.Getenv("UPSTREAM_TEST_PROXY"); proxy != "" {
		askWithProxy(t, proxy)
		return
	}
	var seen atomic.Int32
	proxy := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	proxy.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			seen.Add(1)
		}
	}
	proxy.Start()
	defer proxy.Close()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestNoProxyFromEnvironment$")
	cmd.Env = append(os.Environ(), "UPSTREAM_TEST_PROXY="+strings.TrimPrefix(proxy.URL, "http://"), "NO_PROXY=", "no_proxy=")
	for _, name := range proxyVariables {
		cmd.Env = append(cmd.Env, name+"="+proxy.URL)
	}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
		t.Errorf("%v\n%s", err, out)
	}
	if n := seen.Load(); n != 0 {
		t.Errorf("BREACH: the proxy of the environment got %d connections", n)
	}
}

// askWithProxy asks hosts that only a proxy could reach. The guard would let the
// proxy be connected to: it is a listed host. (net/http never uses a proxy for
// loopback addresses, where the other tests' registries are.)
func askWithProxy(t *testing.T, proxy string) {
	plain, secure := auth.Target{Registry: "plain.invalid", Repository: "a"}, auth.Target{Registry: "secure.invalid", Repository: "a"}
	c, _ := newClient(t, Options{Registries: map[string]Registry{proxy: {PlainHTTP: true}, plain.Registry: {PlainHTTP: true}, secure.Registry: {}}})
	for _, target := range []auth.Target{plain, secure, {Registry: "unlisted.invalid", Repository: "a"}} {
		if _, err := c.Repository(target).Manifest(t.Context(), "1"); err == nil {
			t.Errorf("%s has answered", target.Registry)
		}
		if _, err := c.Repository(target).Layer(t.Context(), ocispec.Descriptor{Digest: digest.FromString("x")}); err == nil {
			t.Errorf("%s has answered", target.Registry)
		}
	}
	for _, url := range []string{"http://plain.invalid/layer", "https://secure.invalid/layer", "http://unlisted.invalid/layer"} {
		if _, _, err := c.Fetch(t.Context(), url); err == nil {
			t.Errorf("%s has answered", url)
		}
	}
}
