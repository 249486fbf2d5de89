package cloud

import (
	"net/http"
	"time"
)

const (
	// AttemptTimeout bounds one HTTP request; a login makes several.
	AttemptTimeout = 10 * time.Second

	maxAnswer = 1 << 20 // bytes
)

// Transport returns a transport that keeps no connections, because a login is needed
// once an hour and an idle connection would keep its goroutines in between.
func Transport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableKeepAlives = true
	return t
}

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
