package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"path"
	"time"

	"github.com/waveproxy/waveproxy/auth"
)

// hops sends single requests: one hop of a call.
type hops struct {
	guard     *guard
	public    *http.Transport            // for calls that begin at a host that is not listed
	listed    *http.Transport            // for the others
	withCA    map[string]*http.Transport // by host:port, in place of listed
	userAgent string
	wait      func(context.Context, time.Duration) error
}

func newHops(g *guard, pools map[string]*x509.CertPool, userAgent string) *hops {
	h := &hops{
		guard: g, userAgent: userAgent, wait: wait,
		public: newTransport(g.public.DialContext, nil),
		listed: newTransport(g.DialContext, nil),
		withCA: map[string]*http.Transport{},
	}
	for addr, pool := range pools {
		h.withCA[addr] = newTransport(g.DialContext, pool)
	}
	return h
}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// newTransport has no Proxy: through one, the guard would see the proxy's
// address instead of the host's, and let everything pass.
func newTransport(dial dialFunc, roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		DialContext:            dial,
		TLSClientConfig:        &tls.Config{RootCAs: roots},
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  30 * time.Second,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConns:           512,
		MaxIdleConnsPerHost:    64,
		MaxResponseHeaderBytes: 256 << 10,
		// Compression undone on the way would change lengths and digests.
		DisableCompression: true,
		ForceAttemptHTTP2:  true,
		// Without pings, requests keep queueing on a connection that is dead.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
	}
}

// hopError is a hop that got no response.
type hopError struct {
	host string
	err  error
}

func (e *hopError) Error() string { return e.host + ": " + e.err.Error() }
func (e *hopError) Unwrap() error { return e.err }

// policyError is why we do not go where a registry sends us.
type policyError struct {
	kind   Kind
	reason string
}

func (e *policyError) Error() string { return e.reason }

const wantURL = "want http:// or https:// and a host, without a user name"

func (h *hops) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "http" && req.URL.Scheme != "https" || req.URL.Host == "" || req.URL.User != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, &policyError{Forbidden, wantURL}
	}
	req = req.Clone(req.Context())
	req.Header.Set("User-Agent", h.userAgent)
	req.Header.Set("Accept-Encoding", "identity") // some registries compress configs even unasked
	resp, err := h.retry(h.transport(req), req)
	if err != nil {
		return nil, &hopError{req.URL.Host, err}
	}
	if resp.StatusCode == http.StatusUnauthorized {
		keepConnection(resp)
	}
	return resp, nil
}

// transport keeps strangers from sending us to a listed host, where all of its
// paths would be open to them: what they could have streamed to themselves as a
// blob need not be one.
func (h *hops) transport(req *http.Request) http.RoundTripper {
	if !callOf(req.Context()).listed {
		return h.public
	}
	if t, ok := h.withCA[address(req.URL)]; ok {
		return t
	}
	return h.listed
}

func (h *hops) CloseIdleConnections() {
	h.public.CloseIdleConnections()
	h.listed.CloseIdleConnections()
	for _, t := range h.withCA {
		t.CloseIdleConnections()
	}
}

// keepConnection reads the response ahead. Every login begins with a 401, whose
// body nobody reads, and closing it unread would close the connection.
func keepConnection(resp *http.Response) {
	ahead, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // who reads on meets the error again
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(ahead), resp.Body), resp.Body}
}

const maxRedirects = 10

// checkRedirect is for http.Client, which resolves relative locations. The
// login client drops Authorization when a chain leaves its origin, which is
// stricter than net/http.
func checkRedirect(req *http.Request, via []*http.Request) error {
	req.Header.Del("Referer")
	if len(via) > maxRedirects {
		return &policyError{Failed, "more than 10 redirects in a row"}
	}
	if via[0].URL.Scheme == "https" && req.URL.Scheme == "http" && !callOf(req.Context()).verified {
		return &policyError{Forbidden, "a redirect from https to http"}
	}
	return nil
}

type targetKey struct{}

// WithTarget says which repository the requests to Transport are for.
func WithTarget(ctx context.Context, t auth.Target) context.Context {
	return context.WithValue(ctx, targetKey{}, t)
}

// Transport returns a RoundTripper for GET and HEAD of BlobURLs, to be used by
// a reverse proxy. The request's context needs a Target. It logs in, follows
// redirects, and returns the last response, whatever the status. Request
// headers go out as they are but for Authorization, User-Agent and
// Accept-Encoding, which are ours; a request body does not. The response's body
// is as long as it is and not verified: the context bounds it, and reading
// fails when nothing arrives for a minute. Errors are *Error, or the context's
// when it was canceled.
func (c *Client) Transport() http.RoundTripper { return blobTransport{c} }

type blobTransport struct{ client *Client }

func (t blobTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		req.Body.Close()
	}
	target, ok := req.Context().Value(targetKey{}).(auth.Target)
	if !ok || req.Method != http.MethodGet && req.Method != http.MethodHead {
		return nil, errors.New("upstream: a blob request needs a target, and GET or HEAD")
	}
	out := req.Clone(req.Context())
	out.Body, out.GetBody, out.ContentLength, out.TransferEncoding = nil, nil, 0, nil
	out.RequestURI = "" // http.Client refuses what a server has set
	out.Header.Del("Authorization")
	cl := &call{op: "pull blob", target: target, name: target.Repository + "@" + path.Base(req.URL.Path), verified: true}
	return t.client.do(out, cl, t.client.authorized)
}
