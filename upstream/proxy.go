package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"golang.org/x/net/http/httpproxy"
	"golang.org/x/net/proxy"
)

// Proxy is a way to hosts. The zero Proxy is the direct way.
type Proxy struct {
	// URL is where the proxy is: http://, https:// or socks5h://, to which the names of
	// hosts are told, or socks5://, to which addresses are. It has no path and no user.
	// ProxyFromEnvironment stands for the URLs in the environment.
	URL string
	// Username and Password log in to the proxy. Empty: no login.
	Username, Password string
	// CA is a PEM file of certificates to trust for a proxy at https://, besides the
	// system's.
	CA string
	// NoProxy are the hosts that are reached directly, as in the variable NO_PROXY: a
	// name with the names below it, ".name" for the names below it alone, an address or
	// a network, each with a port or without. Networks match hosts that are given as
	// addresses. Loopback addresses and localhost are always reached directly.
	NoProxy []string
}

// ProxyFromEnvironment is the Proxy.URL for HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
const ProxyFromEnvironment = "environment"

// way finds the proxy for a URL.
type way struct {
	proxyOf  func(*url.URL) (*url.URL, error)
	username string
	password string
	tls      *tls.Config // of a proxy at https://
}

var errProxyURL = errors.New("want http://, https://, socks5:// or socks5h:// and host:port")

// newWay reads the CA file. The error does not show the URL, which may have a password.
func newWay(p Proxy) (*way, error) {
	c := &httpproxy.Config{HTTPProxy: p.URL, HTTPSProxy: p.URL}
	if p.URL == ProxyFromEnvironment {
		c = httpproxy.FromEnvironment()
	}
	// The library takes what it cannot read for no proxy.
	for _, raw := range []*string{&c.HTTPProxy, &c.HTTPSProxy} {
		if err := completeProxy(raw); err != nil {
			return nil, err
		}
	}
	c.NoProxy = strings.Trim(c.NoProxy+","+strings.Join(p.NoProxy, ","), ",")
	w := &way{proxyOf: c.ProxyFunc(), username: p.Username, password: p.Password, tls: &tls.Config{NextProtos: []string{"http/1.1"}}}
	if p.CA != "" {
		var err error
		if w.tls.RootCAs, err = addCA(nil, nil, p.CA); err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
	}
	return w, nil
}

// Func returns the function for http.Transport.Proxy of clients that the
// configuration names a host for. The guard has no say there, and CA no part.
func (p Proxy) Func() (func(*http.Request) (*url.URL, error), error) {
	w, err := newWay(p)
	if err != nil {
		return nil, err
	}
	return func(r *http.Request) (*url.URL, error) { return w.to(r.URL) }, nil
}

// completeProxy checks the URL of a proxy and gives it a scheme and a port.
func completeProxy(raw *string) error {
	if *raw == "" {
		return nil
	}
	text := *raw
	if !strings.Contains(text, "://") {
		text = "http://" + text // as curl and Go take it in the environment
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		return errProxyURL
	}
	ports := map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}
	port, known := ports[u.Scheme]
	if !known {
		return errProxyURL
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	*raw = (&url.URL{Scheme: u.Scheme, User: u.User, Host: u.Host}).String()
	return nil
}

// to returns the proxy for a URL, with the login, or nil for the direct way.
func (w *way) to(u *url.URL) (*url.URL, error) {
	found, err := w.proxyOf(u)
	if found == nil || err != nil {
		return nil, err
	}
	p := *found
	if w.username != "" {
		p.User = url.UserPassword(w.username, w.password)
	}
	return &p, nil
}

func isSOCKS(p *url.URL) bool { return strings.HasPrefix(p.Scheme, "socks5") }

// through has a transport reach its hosts through a proxy of HTTP or SOCKS. Of each
// connection, the guard judges the host before the proxy is told of it.
func (r *routes) through(t *http.Transport, p *url.URL, proxyTLS *tls.Config, listed bool) {
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		conn, err := r.guard.plain.DialContext(ctx, network, p.Host)
		if err == nil && p.Scheme == "https" {
			conn, err = handshake(ctx, conn, proxyTLS, p.Hostname())
		}
		if err != nil {
			return nil, &proxyError{proxy: p.Host, err: err}
		}
		return conn, nil
	}
	if isSOCKS(p) {
		t.DialContext = r.socks(p, dialFunc(dial), listed)
		return
	}
	t.DialContext = dial
	// The transport has to know of no TLS: it would check the proxy's certificate with
	// the certificates that are trusted for the host.
	t.Proxy = http.ProxyURL(&url.URL{Scheme: "http", User: p.User, Host: p.Host})
	t.GetProxyConnectHeader = func(ctx context.Context, _ *url.URL, target string) (http.Header, error) {
		_, err := r.guard.behind(ctx, target, listed)
		return http.Header{"User-Agent": {r.userAgent}}, err
	}
	t.OnProxyConnectResponse = func(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
		if resp.StatusCode != http.StatusOK {
			return &proxyError{proxy: p.Host, status: resp.StatusCode}
		}
		return nil
	}
}

func handshake(ctx context.Context, conn net.Conn, config *tls.Config, name string) (net.Conn, error) {
	config = config.Clone()
	config.ServerName = name
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secure, nil
}

// socks returns a dialer through a SOCKS proxy. With socks5:// it finds the addresses
// of names itself, so that the guard's word holds for the connection.
func (r *routes) socks(p *url.URL, dial dialFunc, listed bool) dialFunc {
	var login *proxy.Auth
	if p.User != nil {
		login = &proxy.Auth{User: p.User.Username()}
		login.Password, _ = p.User.Password()
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		addrs, err := r.guard.behind(ctx, addr, listed)
		if err != nil {
			return nil, err
		}
		_, port, _ := net.SplitHostPort(addr) // the guard has read it
		targets := []string{addr}
		if p.Scheme == "socks5" {
			if targets = nil; len(addrs) == 0 {
				if addrs, err = r.guard.lookup(ctx, addr); err != nil {
					return nil, err
				}
			}
			for _, a := range addrs {
				targets = append(targets, net.JoinHostPort(a.String(), port))
			}
		}
		d, err := proxy.SOCKS5("tcp", p.Host, login, dial)
		if err != nil {
			return nil, &proxyError{proxy: p.Host, err: err}
		}
		var conn net.Conn
		for _, target := range targets {
			if conn, err = d.(proxy.ContextDialer).DialContext(ctx, network, target); err == nil {
				return conn, nil
			}
		}
		return nil, asProxyError(p.Host, err)
	}
}

// Dial implements proxy.Dialer, and DialContext proxy.ContextDialer.
func (d dialFunc) Dial(network, addr string) (net.Conn, error) {
	return d(context.Background(), network, addr)
}

// DialContext is d.
func (d dialFunc) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return d(ctx, network, addr)
}

// asProxyError returns the proxyError in err, or else what the SOCKS proxy refused.
func asProxyError(host string, err error) error {
	if p, ok := errors.AsType[*proxyError](err); ok {
		return p
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return err
	}
	reason := err
	for cause := errors.Unwrap(reason); cause != nil; cause = errors.Unwrap(reason) {
		reason = cause
	}
	return &proxyError{proxy: host, refusal: strings.TrimPrefix(reason.Error(), "unknown error ")}
}

// proxyError says why a proxy made no connection.
type proxyError struct {
	proxy   string // host:port
	err     error  // there is no connection to the proxy
	status  int    // with which an HTTP proxy refused
	refusal string // with which a SOCKS proxy refused
}

func (e *proxyError) Error() string { return e.explain("the host") }
func (e *proxyError) Unwrap() error { return e.err }

func (e *proxyError) wantsLogin() bool {
	return e.status == http.StatusProxyAuthRequired || strings.Contains(e.refusal, "authentication")
}

// kind returns Unreachable if the same request may succeed a little later, and Failed
// if the operator of one of the two servers has to act.
func (e *proxyError) kind() Kind {
	switch {
	case e.err != nil:
		return kindOf(e.err)
	case e.wantsLogin(), e.status != 0 && e.status < http.StatusInternalServerError, strings.Contains(e.refusal, "not allowed"):
		return Failed
	}
	return Unreachable
}

// explain tells what happened on the way to a host, and the remedy.
func (e *proxyError) explain(host string) string {
	switch {
	case e.err != nil:
		return fmt.Sprintf("no connection to the proxy %s%s, through which this server reaches %s; check that it is up, and upstreams.proxy", e.proxy, because(e.err), host)
	case e.wantsLogin():
		return fmt.Sprintf("the proxy %s refused the login of this server on the way to %s; check username and password of upstreams.proxy", e.proxy, host)
	}
	said := e.refusal
	if e.status != 0 {
		said = strings.TrimSpace(fmt.Sprintf("%d %s", e.status, http.StatusText(e.status)))
	}
	text := fmt.Sprintf("the proxy %s did not connect to %s (%s); ", e.proxy, host, said)
	if e.kind() == Failed {
		return text + "its operator can allow it, or list the host in upstreams.proxy.no_proxy"
	}
	return text + "check the name of the host, and that the proxy reaches it"
}

// addCA adds the certificates of a file to a pool, which begins as a copy of common
// or, without one, of the system's.
func addCA(pool, common *x509.CertPool, file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	switch {
	case pool != nil:
	case common != nil:
		pool = common.Clone()
	default:
		if pool, err = x509.SystemCertPool(); err != nil {
			return nil, fmt.Errorf("read the system's certificates: %w", err)
		}
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no PEM certificate in %s", file)
	}
	return pool, nil
}
