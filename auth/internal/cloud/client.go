package cloud

import (
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

const (
	// AttemptTimeout bounds one HTTP request; a login makes several.
	AttemptTimeout = 10 * time.Second

	maxAnswer = 1 << 20 // bytes
)

// Proxy returns the URL of the proxy for a request, as http.Transport.Proxy does. Nil
// is the direct way for all requests.
type Proxy func(*http.Request) (*url.URL, error)

// Transport returns a transport that keeps no connections, because a login is needed
// once an hour and an idle connection would keep its goroutines in between.
func Transport(proxy Proxy) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableKeepAlives = true
	t.Proxy = proxy.Outside
	return t
}

// Outside is the proxy for all but the metadata services of machines, which a proxy
// does not reach, or where it would get the identity of its own machine.
func (p Proxy) Outside(r *http.Request) (*url.URL, error) {
	host := r.URL.Hostname()
	ip, err := netip.ParseAddr(host)
	if p == nil || host == "metadata.google.internal" || err == nil && (ip.IsLinkLocalUnicast() || ip == metadataIPv6) {
		return nil, nil
	}
	return p(r)
}

// metadataIPv6 is where AWS has the metadata service of IPv6.
var metadataIPv6 = netip.MustParseAddr("fd00:ec2::254")

// Client returns a client that follows no redirect, because the next host would get
// the same token. It reads at most 1 MiB of an answer.
func Client(t *http.Transport) *http.Client {
	return &http.Client{Transport: careful{t}, Timeout: AttemptTimeout}
}

type careful struct{ next http.RoundTripper }

func (c careful) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
		// Not left to CheckRedirect: before http.Client calls it, it rewinds the
		// body of the request. azcore uses one body for both requests, and it may
		// still be being sent.
		resp.Header.Del("Location")
	}
	return resp, err
}
