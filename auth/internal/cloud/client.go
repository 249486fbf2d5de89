package cloud

import (
	"net/http"
	"time"
)

const (
	// AttemptTimeout is for one request, of which a login takes some.
	AttemptTimeout = 10 * time.Second

	maxAnswer = 1 << 20
)

// Transport returns one that keeps no connections: a login is needed once an
// hour, and an idle connection is a goroutine that waits in vain.
func Transport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableKeepAlives = true
	return t
}

// Client returns one that follows no redirect, for the next host would get the
// same token, and reads no more than 1 MiB of an answer.
func Client(t *http.Transport) *http.Client {
	return &http.Client{Transport: careful{t}, Timeout: AttemptTimeout}
}

type careful struct{ next http.RoundTripper }

func (c careful) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
		// Not left to CheckRedirect: before http.Client asks that, it rewinds the
		// body of the request, and azcore has one body for both, perhaps still
		// being sent.
		resp.Header.Del("Location")
	}
	return resp, err
}
