package upstream

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
)

// Fetched is the body of what was fetched.
type Fetched struct {
	io.ReadCloser
	// Via are the URLs that redirects led to, in order, as RedactURL shows them. The
	// policy judged each of them for the caller, and says as much of them as of the
	// whole URLs.
	Via []string
}

// Fetch opens what is at an http or https URL, a layer, and returns its size or
// -1. It sends no credentials, and connects where image names may lead: to
// public addresses and listed hosts. Reading fails when the body is cut off, nothing
// arrives for a minute, or less than 16 KiB/s. Errors are *Error, or the context's when it was
// canceled.
func (c *Client) Fetch(ctx context.Context, rawURL string) (*Fetched, int64, error) {
	cl, u, err := newFetch(ctx, rawURL)
	if err != nil {
		return nil, 0, err
	}
	req := (&http.Request{Method: http.MethodGet, URL: u, Header: http.Header{}}).WithContext(ctx)
	resp, err := c.do(req, cl, c.plain.Do)
	if err != nil {
		return nil, 0, err
	}
	if resp.StatusCode != http.StatusOK {
		discard(resp.Body)
		return nil, 0, cl.refused(resp)
	}
	body := &paced{ReadCloser: resp.Body, call: cl, host: resp.Request.URL.Host}
	via := redirects(resp)
	forgetHeaders(resp)
	return &Fetched{body, via}, resp.ContentLength, nil
}

// redirects returns Fetched.Via of a response.
func redirects(resp *http.Response) (via []string) {
	for req := resp.Request; req.Response != nil; req = req.Response.Request {
		via = append(via, RedactURL(req.URL.String()))
	}
	slices.Reverse(via)
	return via
}

// newFetch returns the call for a URL, or why it is no URL to fetch.
func newFetch(ctx context.Context, rawURL string) (*call, *url.URL, error) {
	cl := &call{op: "fetch layer", name: RedactURL(rawURL), long: true}
	cl.identity, cl.asCaller = Identity(ctx)
	u, err := url.Parse(rawURL)
	if err != nil || !isPlain(u) {
		return nil, nil, cl.forbidden(wantURL)
	}
	return cl, u, nil
}
