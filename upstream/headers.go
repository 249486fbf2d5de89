package upstream

import (
	"fmt"
	"net/http"
)

const (
	// maxHeaderBytes bounds the headers of an answer while they arrive. Redirects to
	// storages, whose URLs are signed, have up to 6 KiB of them.
	maxHeaderBytes = 16 << 10
	// headersRoom is what an answer's headers and the connection take in memory while they
	// are waited for, in bytes: each header takes fifteen times its shortest form. 290
	// requests that waited for the end of 16 KiB had 112 MiB.
	headersRoom = 320 << 10
	// maxHeaders bounds the lines of an answer's headers, and the names of its trailers.
	maxHeaders = 256
)

// headersError is an answer with too many headers.
type headersError struct{ n int }

func (e *headersError) Error() string {
	return fmt.Sprintf("an answer with %d headers, at most %d are taken", e.n, maxHeaders)
}

// keptHeaders are the headers of answers that this package and its callers read.
var keptHeaders = []string{
	"Content-Range", "Content-Type", "Date", "Docker-Content-Digest", "Link", "Location",
	"Oci-Filters-Applied", "Retry-After", "Waveproxy-Source", "Www-Authenticate",
}

// trim drops the headers that are not read, and all trailers: an answer is kept as long as
// its body is read. After an error the body is closed.
func trim(resp *http.Response) error {
	lines := len(resp.Trailer)
	for _, values := range resp.Header {
		lines += len(values)
	}
	if lines > maxHeaders {
		resp.Body.Close()
		return &headersError{lines}
	}
	kept := make(http.Header, 4)
	for _, name := range keptHeaders {
		if values, ok := resp.Header[name]; ok {
			kept[name] = values
		}
	}
	resp.Header, resp.Trailer = kept, nil
	return nil
}
