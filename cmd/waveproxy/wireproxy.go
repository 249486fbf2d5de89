package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"

	"github.com/waveproxy/waveproxy/config"
	"github.com/waveproxy/waveproxy/upstream"
)

// newProxy returns the way to hosts that have none of their own.
func newProxy(cfg *config.Config) (upstream.Proxy, error) {
	p := cfg.Upstreams.Proxy
	password, err := p.ReadPassword()
	if err != nil {
		return upstream.Proxy{}, fmt.Errorf("upstreams.proxy.password: %w", err)
	}
	way := upstream.Proxy{URL: proxyURL(p.URL), Username: p.Username, Password: password, CA: p.CA}
	for _, e := range p.NoProxy {
		way.NoProxy = append(way.NoProxy, string(e))
	}
	return way, nil
}

func proxyURL(u config.ProxyURL) string {
	switch u {
	case config.ProxyDirect:
		return ""
	case config.ProxyEnvironment:
		return upstream.ProxyFromEnvironment
	}
	return string(u)
}

// proxyTo returns the way to a registry that names one, or nil. The login and the CA of
// the common proxy are for that proxy alone.
func proxyTo(cfg *config.Config, own config.ProxyURL, common upstream.Proxy) *upstream.Proxy {
	if own == "" {
		return nil
	}
	way := upstream.Proxy{URL: proxyURL(own)}
	if own == cfg.Upstreams.Proxy.URL {
		way.Username, way.Password, way.CA = common.Username, common.Password, common.CA
	}
	return &way
}

// proxyOf is http.Transport.Proxy.
type proxyOf = func(*http.Request) (*url.URL, error)

// proxyFunc returns the way for clients other than the client for registries.
func proxyFunc(cfg *config.Config) (proxyOf, error) {
	proxy, err := newProxy(cfg)
	if err != nil {
		return nil, err
	}
	f, err := proxy.Func()
	if err != nil {
		return nil, fmt.Errorf("upstreams.proxy: %w", err)
	}
	return f, nil
}

// trusting returns a client for a host that the configuration names, so it may be at a
// private address. It trusts the certificates in the file, if one is given, and those
// of upstreams.ca, besides the system's. Without upstreams.proxy it takes no proxy,
// because a proxy of the environment could see the callers' tokens.
func trusting(cfg *config.Config, ca string) (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	var err error
	if transport.Proxy, err = proxyFunc(cfg); err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, err
	}
	for _, file := range []string{ca, cfg.Upstreams.CA, cfg.Upstreams.Proxy.CA} {
		if file == "" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if !pool.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s has no certificate in PEM form", file)
		}
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	return &http.Client{Transport: transport}, nil
}

// proxyVariables are how programs are told of a proxy.
var proxyVariables = []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"}

// tellProxies logs the variables of the environment that name a proxy and are not used.
// Their values may have passwords.
func tellProxies(cfg *config.Config, log *slog.Logger) {
	used := cfg.Upstreams.Proxy.URL == config.ProxyEnvironment
	for _, r := range cfg.Registries {
		used = used || r.Proxy == config.ProxyEnvironment
	}
	var set []string
	for _, name := range proxyVariables {
		if os.Getenv(name) != "" && (!used || name == "ALL_PROXY" || name == "all_proxy") {
			set = append(set, name)
		}
	}
	if len(set) > 0 {
		log.Warn("the environment names a proxy, which is not used: upstreams.proxy.url says which one is", "variables", set)
	}
}
