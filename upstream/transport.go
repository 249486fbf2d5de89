package upstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/budget"
)

// hops sends single requests: one hop of a call.
type hops struct {
	guard     *guard
	routes    atomic.Pointer[routes]
	userAgent string
	queue     *queue
	room      int64 // headersRoom
	wait      func(context.Context, time.Duration) error
}

func newHops(r *routes, q *queue) *hops {
	h := &hops{guard: r.guard, userAgent: r.userAgent, queue: q, room: headersRoom, wait: wait}
	h.routes.Store(r)
	return h
}

// hopError is a hop that got no response.
type hopError struct {
	host string
	err  error
}

func (e *hopError) Error() string { return e.host + ": " + e.err.Error() }
func (e *hopError) Unwrap() error { return e.err }

// policyError is why a redirect or a realm is not followed.
type policyError struct {
	kind   Kind
	reason string
}

func (e *policyError) Error() string { return e.reason }

const wantURL = "want http:// or https:// and a host in ASCII, without a user name"

// isPlain reports whether the URL names its host in the letters that DNS gets.
// net/http would take others for them ("ｑuay.io"), behind the policy's back.
func isPlain(u *url.URL) bool {
	_, _, err := auth.SplitHost(u.Host)
	return (u.Scheme == "http" || u.Scheme == "https") && err == nil && u.User == nil
}

func (h *hops) RoundTrip(req *http.Request) (*http.Response, error) {
	if !isPlain(req.URL) {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, &policyError{Forbidden, wantURL}
	}
	req = req.Clone(req.Context())
	req.Header.Set("User-Agent", h.userAgent)
	req.Header.Set("Accept-Encoding", "identity") // some registries compress configs even unasked
	transport, err := h.transport(req)
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, &hopError{req.URL.Host, err}
	}
	resp, err := h.retry(transport, req)
	if err != nil {
		return nil, &hopError{req.URL.Host, err}
	}
	if resp.StatusCode == http.StatusProxyAuthRequired && transport.Proxy != nil {
		discard(resp.Body) // the answer of a proxy that was sent the whole URL
		p, _ := transport.Proxy(req)
		return nil, &hopError{req.URL.Host, &proxyError{proxy: p.Host, status: resp.StatusCode}}
	}
	switch p, ok := req.Context().Value(pendingKey{}).(*pending); {
	case resp.StatusCode == http.StatusUnauthorized:
		if !ok {
			callOf(req.Context()).choose(resp.Header)
		}
		if err := readRefusal(req.Context(), resp); err != nil {
			return nil, &hopError{req.URL.Host, err}
		}
	case ok && resp.StatusCode == http.StatusOK:
		answer, err := readAhead(req.Context(), resp, maxTokenAnswer)
		if err != nil {
			return nil, &hopError{req.URL.Host, err}
		}
		p.life = tokenLife(resp.Header, answer)
	}
	return resp, nil
}

// errQueued says that a request was not sent, because the requests before it took all
// the time it had. It says nothing about the host, nor about a client that came to
// want the same request later, so it is private in the sense of package flight.
var errQueued error = queuedError{}

type queuedError struct{}

func (queuedError) Error() string { return "no free slot in time" }
func (queuedError) Private() bool { return true }

// send sends one request when it is its turn, and returns when the headers of
// the response are here. The request is charged for them until then.
func (h *hops) send(transport http.RoundTripper, req *http.Request) (*http.Response, error) {
	host := address(req.URL)
	leave, err := h.queue.enter(req.Context(), host, callOf(req.Context()).target)
	if err != nil {
		return nil, err
	}
	defer leave()
	release, err := budget.From(req.Context()).Hold(budget.Memory, h.room)
	if err != nil {
		return nil, err
	}
	defer release()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if err := trim(resp); err != nil {
		return nil, err
	}
	return resp, nil
}

// transport returns the transport for a request.
func (h *hops) transport(req *http.Request) (*http.Transport, error) {
	cl := callOf(req.Context())
	t, err := h.routes.Load().to(req.Context(), req.URL, cl.listed)
	if err != nil {
		return nil, err
	}
	if _, isLogin := req.Context().Value(pendingKey{}).(*pending); cl.long && !isLogin {
		return t.long, nil
	}
	return t.short, nil
}

func (h *hops) CloseIdleConnections() { h.routes.Load().closeIdle() }

// firstAhead is how much room the answer to a login gets at first, in bytes. Nearly all are
// smaller.
const firstAhead = 4 << 10

// readAhead returns the beginning of the body, which stays in the response. The request
// holds its bytes until the body is closed. After an error, which is *budget.Exceeded, it
// is closed.
func readAhead(ctx context.Context, resp *http.Response, limit int) ([]byte, error) {
	room := budget.From(ctx).Holding(budget.Memory)
	ahead, err := readInto(room, resp.Body, firstAhead, limit) // reading on meets an error of the body again
	if _, full := errors.AsType[*budget.Exceeded](err); full {
		room.Release()
		resp.Body.Close()
		return nil, err
	}
	resp.Body = &aheadBody{io.MultiReader(bytes.NewReader(ahead), resp.Body), resp.Body, sync.OnceFunc(room.Release)}
	return ahead, nil
}

// readRefusal is readAhead for a 401, with which every login begins. Closing its body unread
// would close the connection, but it is not worth a long wait.
func readRefusal(ctx context.Context, resp *http.Response) error {
	body := resp.Body
	late := time.AfterFunc(unwantedTime, func() { body.Close() })
	defer late.Stop()
	_, err := readAhead(ctx, resp, maxErrorBody)
	return err
}

// aheadBody is a body whose beginning is in memory.
type aheadBody struct {
	io.Reader
	body    io.Closer
	release func()
}

func (b *aheadBody) Close() error {
	b.release()
	return b.body.Close()
}

const maxRedirects = 10

// checkRedirect is for http.Client, which resolves relative locations. The
// login client drops Authorization when a chain leaves its origin, which is
// stricter than net/http.
func (c *Client) checkRedirect(req *http.Request, via []*http.Request) error {
	req.Header.Del("Referer")
	if len(via) > maxRedirects {
		return &policyError{Failed, "more than 10 redirects in a row"}
	}
	cl := callOf(req.Context())
	_, isLogin := req.Context().Value(pendingKey{}).(*pending)
	if cl.redirect && !isLogin && passOn(req.URL, via[0].URL) && c.hops.guard.mayOffer(cl, req.URL) {
		return http.ErrUseLastResponse
	}
	if via[0].URL.Scheme == "https" && req.URL.Scheme == "http" && (isLogin || !cl.verified) {
		return &policyError{Forbidden, "a redirect from https to http"}
	}
	// Where a registry keeps its blobs is its own matter.
	if cl.target.Registry == "" {
		if err := c.permittedURL(cl, req.URL); err != nil {
			return &policyError{Forbidden, reasonOf(err)}
		}
	}
	// Each answer and each URL of a chain is kept until its last body is closed.
	clear(req.Response.Header)
	return budget.HoldFor(req.Context(), budget.Memory, urlCost*int64(len(req.URL.RawQuery)+len(req.URL.Path)))
}

// urlCost is how many bytes in memory a byte of a redirect's URL takes: as it came, and
// decoded.
const urlCost = 3
