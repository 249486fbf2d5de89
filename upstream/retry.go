package upstream

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/waveproxy/waveproxy/budget"
)

const (
	maxAttempts = 4
	firstDelay  = 500 * time.Millisecond // on average; doubled each time
)

// retry sends a GET or HEAD without a body until the answer is not transient, the
// attempts are used up, or the server asks for a longer wait than the call has
// left.
func (h *hops) retry(transport http.RoundTripper, req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	for attempt := 1; ; attempt++ {
		resp, err := h.send(transport, req)
		if attempt == maxAttempts || !repeatable(req) || !transient(resp, err) {
			return resp, err
		}
		if err == nil && ctx.Err() != nil { // an answer that came after the caller gave up
			discard(resp.Body)
			return nil, ctx.Err()
		}
		if ctx.Err() != nil {
			return nil, err
		}
		delay := max(backoff(attempt), retryAfter(resp))
		if delay > time.Until(callOf(ctx).retryUntil) {
			return resp, err
		}
		if resp != nil {
			discard(resp.Body)
		}
		if err := h.wait(ctx, delay); err != nil {
			return nil, err
		}
	}
}

func repeatable(req *http.Request) bool {
	return (req.Method == http.MethodGet || req.Method == http.MethodHead) &&
		(req.Body == nil || req.Body == http.NoBody)
}

// transient reports whether the same request may succeed a little later.
func transient(resp *http.Response, err error) bool {
	if err == nil {
		switch resp.StatusCode {
		case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
			http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true
		}
		return false
	}
	if _, full := errors.AsType[*budget.Exceeded](err); full {
		return false // it waits already, or is told when to come again
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		return !e.IsNotFound
	}
	kind := kindOf(err)
	return kind == Unreachable || kind == Timeout
}

// backoff returns a randomised wait, so that calls that failed together do not
// retry together.
func backoff(attempt int) time.Duration {
	d := firstDelay << (attempt - 1)
	return d/2 + rand.N(d)
}

// retryAfter returns the wait that the server asks for, or 0. It ignores the
// other form, a date, because registries do not use it.
func retryAfter(resp *http.Response) time.Duration {
	if resp == nil {
		return 0
	}
	seconds, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

const (
	// maxErrorBody is the number of bytes that are read of an unwanted body, to keep
	// the connection, and unwantedTime how long it is worth waiting for them.
	maxErrorBody = 64 << 10
	unwantedTime = time.Second
)

// discard reads and closes an unwanted body.
func discard(body io.ReadCloser) {
	late := time.AfterFunc(unwantedTime, func() { body.Close() })
	defer late.Stop()
	_, _ = io.CopyN(io.Discard, body, maxErrorBody) // a broken body only costs the connection
	body.Close()
}
