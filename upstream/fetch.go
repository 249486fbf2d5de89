package upstream

import (
	"context"
	"io"
	"net/http"
	"net/url"
)

// Fetch opens what is at an http or https URL, a layer, and returns its size or
// -1. It sends no credentials, and connects where image names may lead: to
// public addresses and listed hosts. Reading fails when the body is cut off, nothing
// arrives for a minute, or less than 16 KiB/s. Errors are *Error, or the context's when it was
// canceled.
func (c *Client) Fetch(ctx context.Context, rawURL string) (io.ReadCloser, int64, error) {
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
	return &paced{ReadCloser: resp.Body, call: cl, host: resp.Request.URL.Host}, resp.ContentLength, nil
}

// newFetch returns the call for a URL, or why it is no URL to fetch.
func newFetch(ctx context.Context, rawURL string) (*call, *url.URL, error) {
	cl := &call{op: "fetch layer", name: RedactURL(rawURL)}
	cl.identity, cl.asCaller = ctx.Value(identityKey{}).(string)
	u, err := url.Parse(rawURL)
	if err != nil || !isPlain(u) {
		return nil, nil, cl.forbidden(wantURL)
	}
	return cl, u, nil
}
