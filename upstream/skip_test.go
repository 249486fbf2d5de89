package upstream

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestSkippedBytes: where a registry ignores ranges, what is read and thrown away is
// bounded, whoever is to blame for it.
func TestSkippedBytes(t *testing.T) {
	const mib = int64(1 << 20)
	desc := ocispec.Descriptor{Digest: digest.FromString("large"), Size: 40 * mib}
	for name, test := range map[string]struct {
		span     Span
		cuts     []int64 // where answers break
		requests int
		refused  bool
	}{
		"begins early":              {Span{15 * mib, 1}, nil, 1, false},
		"begins late":               {Span{39 * mib, 1}, nil, 1, true},
		"begins a byte too late":    {Span{16*mib + 1, 100}, nil, 1, true},
		"breaks late, once":         {Span{0, 40 * mib}, []int64{30 * mib}, 2, false},
		"breaks late, again, again": {Span{0, 40 * mib}, []int64{30 * mib, 35 * mib, 38 * mib}, 3, true},
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", strconv.FormatInt(desc.Size, 10))
				length := desc.Size
				if n++; n <= len(test.cuts) {
					length = test.cuts[n-1]
				}
				if _, err := io.CopyN(w, zeros{}, length); err == nil && length < desc.Size {
					panic(http.ErrAbortHandler)
				}
			})
			c, _ := newClient(t, listed(s))
			_, body, err := c.Repository(image).Stream(t.Context(), desc, test.span, false)
			if err == nil {
				_, err = io.Copy(io.Discard, body)
				body.Close()
			}
			if errors.Is(err, ErrNoRanges) != test.refused || (err != nil) != test.refused {
				t.Errorf("%v", err)
			}
			if test.refused {
				wantError(t, err, Invalid, "sends no parts of blobs")
			}
			if got := len(s.TakeLines()); got != test.requests {
				t.Errorf("%d requests, want %d", got, test.requests)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
