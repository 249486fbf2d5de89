package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/front"
)

const (
	// forwardTimeout bounds one forwarded request. A Wave server looks an image up in
	// this time.
	forwardTimeout = 2 * time.Minute
	maxForwarded   = 1 << 20 // bytes of an answer

	// via marks forwarded requests, so that a server that forwards to itself
	// notices.
	via = "1.1 waveproxy"
)

// forward sends the request to the server at Forward and returns its answer,
// whatever its status. Without such a server it returns refusal.
func (s server) forward(r *http.Request, body []byte, refusal error) (any, error) {
	id := r.PathValue("id") + r.PathValue("part")
	if s.Forward == nil || strings.Contains(r.Header.Get("Via"), via) || !forwardable.MatchString(id) {
		return nil, refusal
	}
	release, err := budget.From(r.Context()).Hold(budget.Fetches, 1)
	if err != nil {
		return nil, err
	}
	defer release()
	ctx, cancel := context.WithTimeout(r.Context(), forwardTimeout)
	defer cancel()
	target := url.URL{Scheme: s.Forward.Scheme, Host: s.Forward.Host, Path: r.URL.Path, RawQuery: r.URL.RawQuery}
	req, err := http.NewRequestWithContext(ctx, r.Method, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("forward request: %w", err)
	}
	for _, name := range []string{"Authorization", "Content-Type"} {
		if value := r.Header.Get(name); value != "" {
			req.Header.Set(name, value)
		}
	}
	req.Header.Set("Via", via)
	resp, err := s.Client.Do(req)
	if err != nil {
		return nil, s.unreachable(err)
	}
	defer resp.Body.Close()
	size := resp.ContentLength
	if size < 0 || size > maxForwarded {
		size = maxForwarded
	}
	if err := budget.HoldFor(r.Context(), budget.Memory, 2*size); err != nil { // the reader's buffer grows
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxForwarded+1))
	if err != nil {
		return nil, s.unreachable(err)
	}
	if len(data) > maxForwarded {
		return nil, s.unreachable(fmt.Errorf("its answer is larger than %d bytes", maxForwarded))
	}
	return answer{resp.StatusCode, resp.Header.Get("Content-Type"), resp.Header.Get("Retry-After"), data}, nil
}

// forwardable matches ids that stay one path element: a path that is decoded on
// the way could otherwise name another endpoint of the other server.
var forwardable = regexp.MustCompile(`^[A-Za-z0-9_-]{0,256}$`)

func (s server) unreachable(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // without the URL
	}
	return front.Refuse(http.StatusBadGateway, front.Unsupported, "%s, where this server forwards what it does not do itself (api.builds.forward), did not answer: %s",
		s.Forward.Host, strings.Join(strings.Fields(err.Error()), " "))
}

// getJob answers for the builds, mirrors and scans of a Wave server.
func (s server) getJob(_ http.ResponseWriter, r *http.Request) (any, error) {
	return s.forward(r, nil, front.Refuse(http.StatusNotFound, front.Unsupported, "no such job: this server makes no builds, mirrors or scans"))
}
