package main

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/config"
	"github.com/waveproxy/waveproxy/recipes"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// TestProxiesOfTheEnvironmentAreTold, by their names, when they are not used.
func TestProxiesOfTheEnvironmentAreTold(t *testing.T) {
	for _, name := range proxyVariables {
		t.Setenv(name, "")
	}
	for _, test := range []struct {
		url  config.ProxyURL
		set  string
		want bool
	}{
		{"", "", false}, {"", "HTTPS_PROXY", true}, {"direct", "http_proxy", true}, {"http://proxy:3128", "HTTP_PROXY", true},
		{"environment", "HTTPS_PROXY", false}, {"environment", "ALL_PROXY", true},
	} {
		if test.set != "" {
			t.Setenv(test.set, "http://ci:hunter2@proxy.example.org:3128")
		}
		cfg := config.Defaults()
		cfg.Upstreams.Proxy.URL = test.url
		var log bytes.Buffer
		tellProxies(cfg, slog.New(slog.NewTextHandler(&log, nil)))
		if told := strings.Contains(log.String(), "which is not used") && strings.Contains(log.String(), test.set); told != test.want || strings.Contains(log.String(), "hunter2") {
			t.Errorf("%+v: %s", test, &log)
		}
		if test.set != "" {
			t.Setenv(test.set, "")
		}
	}
}

// Registries and the hosts that the configuration names go through the proxy with its
// login, but for a registry with another way.
func TestConfiguredProxy(t *testing.T) {
	s := upstreamtest.New(t)
	s.Answer(upstreamtest.Status(http.StatusNotFound))
	names := map[string]string{"a.example.org:80": s.Host(), "b.example.org:80": s.Host(), "issuer.example.org:80": s.Host()}
	common, own := upstreamtest.NewProxy(t, names, (*httptest.Server).Start), upstreamtest.NewProxy(t, names, (*httptest.Server).Start)
	common.Login = "ci:hunter2"
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := config.Defaults()
	cfg.Upstreams.Proxy = config.Proxy{URL: config.ProxyURL("http://" + common.Addr()), Username: "ci", PasswordFile: password}
	cfg.Registries = map[string]config.Registry{
		"a.example.org": {PlainHTTP: true},
		"b.example.org": {PlainHTTP: true, Proxy: config.ProxyURL("http://" + own.Addr())},
		"c.example.org": {PlainHTTP: true, Proxy: config.ProxyDirect, URL: config.URL{Scheme: "http", Host: s.Host()}},
	}
	client, err := newUpstream(cfg, nil, new(recipes.Book))
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	for _, host := range []string{"a.example.org", "b.example.org", "c.example.org"} {
		_, err := client.Repository(auth.Target{Registry: host, Repository: "x"}).Manifest(t.Context(), "1")
		if err == nil || !strings.Contains(err.Error(), "answered 404") {
			t.Errorf("%s: %v", host, err)
		}
	}
	issuer, err := trusting(cfg, "")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := issuer.Get("http://issuer.example.org/.well-known/openid-configuration")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	issuer.CloseIdleConnections()
	want := []string{"GET http://a.example.org/v2/x/manifests/1", "GET http://issuer.example.org/.well-known/openid-configuration"}
	if got := common.Take(); !slices.Equal(got, want) {
		t.Errorf("the proxy was asked for %q, want %q", got, want)
	}
	if got := own.Take(); !slices.Equal(got, []string{"GET http://b.example.org/v2/x/manifests/1"}) {
		t.Errorf("the other proxy was asked for %q", got)
	}
}
