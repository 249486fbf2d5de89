package upstreamtest

import (
	"context"
	"encoding/base64"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Proxy is a proxy of HTTP or SOCKS5 on loopback. It knows names that DNS does not
// have, and lists what it is asked for. Its methods are safe for concurrent use.
type Proxy struct {
	Login string // user:password, if it wants one
	// Refuse returns the status with which an HTTP proxy refuses a target, or 0. A
	// SOCKS proxy refuses by its ruleset.
	Refuse func(target string) int

	t      testing.TB
	names  map[string]string // where the targets, host:port, are
	server *httptest.Server  // of an HTTP proxy
	addr   string

	mu    sync.Mutex
	asked []string
}

// NewProxy returns a proxy of HTTP. start is (*httptest.Server).Start or StartTLS.
func NewProxy(t testing.TB, names map[string]string, start func(*httptest.Server)) *Proxy {
	t.Helper()
	p := &Proxy{t: t, names: names}
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(p.serveHTTP))
	p.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	start(p.server)
	t.Cleanup(p.server.Close)
	p.addr = p.server.Listener.Addr().String()
	return p
}

// Addr returns host:port of the proxy.
func (p *Proxy) Addr() string { return p.addr }

// Server returns the server of an HTTP proxy.
func (p *Proxy) Server() *httptest.Server { return p.server }

// Take returns what was asked since its last call, each as "CONNECT host:port" or
// "GET http://…", sorted.
func (p *Proxy) Take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := slices.Compact(slices.Sorted(slices.Values(p.asked)))
	p.asked = nil
	return taken
}

func (p *Proxy) ask(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, what)
}

// dial connects to a target as the proxy knows it. Only loopback is reached.
func (p *Proxy) dial(target string) (net.Conn, error) {
	if at, ok := p.names[target]; ok {
		target = at
	}
	if !strings.HasPrefix(target, "127.0.0.1:") {
		return nil, &net.DNSError{Err: "no such host", Name: target, IsNotFound: true}
	}
	return net.Dial("tcp", target)
}

func (p *Proxy) serveHTTP(w http.ResponseWriter, r *http.Request) {
	p.ask(r.Method + " " + strings.TrimPrefix(r.URL.String(), "//"))
	if p.Login != "" && r.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte(p.Login)) {
		w.Header().Set("Proxy-Authenticate", `Basic realm="proxy"`)
		w.WriteHeader(http.StatusProxyAuthRequired)
		_, _ = io.WriteString(w, ErrorBody)
		return
	}
	if p.Refuse != nil {
		if status := p.Refuse(r.Host); status != 0 {
			http.Error(w, ErrorBody, status)
			return
		}
	}
	if r.Method != http.MethodConnect {
		forward := &httputil.ReverseProxy{
			Rewrite:   func(*httputil.ProxyRequest) {},
			ErrorLog:  p.server.Config.ErrorLog,
			Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(_ context.Context, _, addr string) (net.Conn, error) { return p.dial(addr) }},
		}
		forward.ServeHTTP(w, r)
		return
	}
	to, err := p.dial(r.Host)
	if err != nil {
		http.Error(w, ErrorBody, http.StatusBadGateway)
		return
	}
	w.WriteHeader(http.StatusOK)
	from, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		p.t.Error(err)
		return
	}
	join(from, buffered, to)
}

// join copies both ways until one side ends.
func join(from net.Conn, sent io.Reader, to net.Conn) {
	ended := make(chan struct{}, 2)
	go func() { _, _ = io.Copy(to, sent); ended <- struct{}{} }()
	go func() { _, _ = io.Copy(from, to); ended <- struct{}{} }()
	<-ended
	from.Close()
	to.Close()
	<-ended
}
