package front

import (
	"net/http"
	"strings"

	"github.com/waveproxy/waveproxy/budget"
)

const (
	// maxHeaders bounds the headers of a request. Each costs some twenty times its
	// shortest form as long as the request lasts.
	maxHeaders = 128

	// requestCost is what a request costs in memory while it waits for anything, in
	// bytes without its headers: stacks and buffers of its connection and of its
	// handler. 12,600 requests that waited for a registry took 393 MiB.
	requestCost = 32 << 10
	headerCost  = 64 // of one header, beside its text
)

// charge holds what the request costs by itself, until its budget is left. An error is
// a *Refusal, or *budget.Exceeded.
func charge(b *budget.Budget, r *http.Request) error {
	headers := 0
	cost := requestCost + 3*len(r.RequestURI) // as it came, decoded, and its query
	for name, values := range r.Header {
		headers += len(values)
		cost += len(name) + headerCost*len(values)
		for _, value := range values {
			cost += len(value)
		}
	}
	if headers > maxHeaders {
		return Refuse(http.StatusRequestHeaderFieldsTooLarge, Unsupported,
			"the request has %d headers, at most %d are taken", headers, maxHeaders)
	}
	if len(r.Trailer) > 0 { // a map that net/http keeps, of up to 64 KiB of names
		return Refuse(http.StatusRequestHeaderFieldsTooLarge, Unsupported, "the request announces trailers, which are not taken")
	}
	return b.Enter(int64(cost))
}

// writeErrorOf answers before it is known which plane the request is for, in the form
// of the plane that its path begins like.
func writeErrorOf(w http.ResponseWriter, r *http.Request, err error) {
	if strings.HasPrefix(r.URL.Path, "/v2/") || strings.HasPrefix(r.URL.Path, "/wt/") {
		WriteError(w, r, err)
		return
	}
	WriteAPIError(w, r, err)
}
