package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// routes are the transports by where a request goes and on whose word. It is safe for
// concurrent use.
type routes struct {
	guard     *guard
	userAgent string
	roots     *x509.CertPool       // nil: the system's
	own       map[string]*identity // of listed hosts, by address
	way       *way                 // to hosts that have none of their own
	ways      map[string]*way      // to listed hosts, by address

	mu   sync.Mutex
	made map[route]transports
}

// identity is what TLS with one host takes, and with no other.
type identity struct {
	roots       *x509.CertPool
	certificate []tls.Certificate
}

// route is one way of sending requests. There are a few of each configured host.
type route struct {
	listed bool   // the call began at a listed host, so it may lead to others
	host   string // the address, if it has an identity of its own
	proxy  string // the URL, with the login; empty: none
}

// newRoutes reads the files that the options name.
func newRoutes(g *guard, o Options) (*routes, error) {
	r := &routes{guard: g, userAgent: o.UserAgent, own: map[string]*identity{}, ways: map[string]*way{}, made: map[route]transports{}}
	var err error
	if o.CA != "" {
		if r.roots, err = addCA(nil, nil, o.CA); err != nil {
			return nil, fmt.Errorf("upstreams.ca: %w", err)
		}
	}
	if r.way, err = newWay(o.Proxy); err != nil {
		return nil, fmt.Errorf("upstreams.proxy: %w", err)
	}
	for _, host := range slices.Sorted(maps.Keys(o.Registries)) {
		base, err := o.Registries[host].base(host)
		if err != nil {
			return nil, fmt.Errorf("registries[%s]: %w", host, err)
		}
		for _, u := range []*url.URL{base, {Scheme: base.Scheme, Host: host}} {
			if err := r.add(address(u), o.Registries[host]); err != nil {
				return nil, fmt.Errorf("registries[%s].%w", host, err)
			}
		}
	}
	return r, nil
}

// add notes what a registry has of its own.
func (r *routes) add(addr string, own Registry) (err error) {
	if own.Proxy != nil {
		if r.ways[addr], err = newWay(*own.Proxy); err != nil {
			return fmt.Errorf("proxy: %w", err)
		}
	}
	if own.CA == "" && own.ClientCert == "" {
		return nil
	}
	i := r.own[addr]
	if i == nil {
		i = &identity{}
		r.own[addr] = i
	}
	if own.CA != "" {
		if i.roots, err = addCA(i.roots, r.roots, own.CA); err != nil {
			return fmt.Errorf("ca: %w", err)
		}
	} else if i.roots == nil {
		i.roots = r.roots
	}
	if own.ClientCert != "" {
		pair, err := tls.LoadX509KeyPair(own.ClientCert, own.ClientKey)
		if err != nil {
			return fmt.Errorf("client_cert: %w", err)
		}
		i.certificate = []tls.Certificate{pair}
	}
	return nil
}

// to returns the transports for a request to a URL. listed tells whether its call
// began at a listed host. If not, no listed host is reached, and no client certificate
// is shown. Otherwise a hostile registry could redirect us to any path of an
// internal host and read the answer as a "blob".
func (r *routes) to(ctx context.Context, u *url.URL, listed bool) (transports, error) {
	addr := address(u)
	key := route{listed: listed}
	if listed && r.own[addr] != nil {
		key.host = addr
	}
	w, own := r.ways[addr]
	if !own {
		w = r.way
	}
	p, err := w.to(u)
	if err != nil {
		return transports{}, err
	}
	if p != nil {
		key.proxy = p.String()
		if u.Scheme == "http" && !isSOCKS(p) { // no connection of its own
			if _, err := r.guard.behind(ctx, addr, listed); err != nil {
				return transports{}, err
			}
		}
	}
	return r.transports(key, w, p), nil
}

func (r *routes) transports(key route, w *way, p *url.URL) transports {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t, ok := r.made[key]; ok {
		return t
	}
	t := r.newTransports(key, w, p)
	r.made[key] = t
	return t
}

func (r *routes) closeIdle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.made {
		t.short.CloseIdleConnections()
		t.long.CloseIdleConnections()
	}
}

type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// transports are the two ways to one host. Bodies of any length come over HTTP/1.1:
// what their readers do not take stays with the sender, and the kernel fits the
// window to the link. Over HTTP/2 the process keeps a whole window of each stream in
// memory. A window that is small enough for a thousand streams makes one stream slow:
// 256 KiB are 8 MB/s at 30 ms. A window for the whole connection would let one client
// that reads nothing stop the streams of all others.
type transports struct{ short, long *http.Transport }

// maxReceive is how much of an answer over HTTP/2 is in memory before it is read, in
// bytes. Manifests and tokens are read at once.
const maxReceive = 256 << 10

func (r *routes) newTransports(key route, w *way, p *url.URL) transports {
	t := transports{r.newTransport(key, w, p), r.newTransport(key, w, p)}
	t.long.ForceAttemptHTTP2, t.long.HTTP2 = false, nil
	t.long.Protocols = new(http.Protocols)
	t.long.Protocols.SetHTTP1(true)
	return t
}

// newTransport takes no proxy from the environment, because the guard would see the
// proxy's address instead of the host's, and let everything pass. Fewer idle connections
// are kept to strangers than to listed hosts, and not as long: they are charged to no client.
func (r *routes) newTransport(key route, w *way, p *url.URL) *http.Transport {
	dial := r.guard.public.DialContext
	if key.listed {
		dial = r.guard.DialContext
	}
	trust := &tls.Config{RootCAs: r.roots, VerifyConnection: forgetCertificates}
	if own := r.own[key.host]; own != nil {
		trust.RootCAs, trust.Certificates = own.roots, own.certificate
	}
	t := &http.Transport{
		DialContext:            dial,
		TLSClientConfig:        trust,
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  30 * time.Second,
		IdleConnTimeout:        30 * time.Second,
		MaxIdleConns:           128,
		MaxIdleConnsPerHost:    32,
		MaxResponseHeaderBytes: maxHeaderBytes,
		// Compression undone on the way would change lengths and digests.
		DisableCompression: true,
		ForceAttemptHTTP2:  true,
		// Without pings, requests keep queueing on a connection that is dead.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second, MaxReceiveBufferPerStream: maxReceive},
	}
	if key.listed {
		t.IdleConnTimeout, t.MaxIdleConns, t.MaxIdleConnsPerHost = 90*time.Second, 512, 64
	}
	if p != nil {
		r.through(t, p, w.tls, key.listed)
	}
	t.DialContext = shortHandshake(t.DialContext)
	return t
}
