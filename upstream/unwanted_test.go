package upstream

import (
	"context"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// trickle yields n bytes at each read, after a pause, and fails once it is closed.
type trickle struct {
	n, left int
	pause   time.Duration
	once    sync.Once
	closed  chan struct{}
}

func (b *trickle) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	select {
	case <-time.After(b.pause):
		n := min(b.n, b.left, len(p))
		b.left -= n
		return n, nil
	case <-b.closed:
		return 0, io.ErrClosedPipe
	}
}

func (b *trickle) Close() error { b.once.Do(func() { close(b.closed) }); return nil }

// TestUnwantedBodies: what is read only to keep a connection is not waited for.
func TestUnwantedBodies(t *testing.T) {
	for name, test := range map[string]struct {
		n, size int
		pause   time.Duration
		want    time.Duration // after which it is given up, or ends
	}{
		"a byte in five seconds":   {1, 60_000, 5 * time.Second, unwantedTime},
		"a byte in a millisecond":  {1, 60_000, time.Millisecond, unwantedTime},
		"silence":                  {1, 1, time.Hour, unwantedTime},
		"short and soon":           {100, 1000, 10 * time.Millisecond, 100 * time.Millisecond},
		"longer than is worth":     {32 << 10, 1 << 30, 0, 0},
		"as long as is worth, now": {32 << 10, 64 << 10, 0, 0},
	} {
		for way, read := range map[string]func(b *trickle){
			"discard": func(b *trickle) { discard(b) },
			"401": func(b *trickle) {
				resp := &http.Response{Body: b}
				if err := readRefusal(context.Background(), resp); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				resp.Body.Close()
			},
		} {
			synctest.Test(t, func(t *testing.T) {
				b := &trickle{n: test.n, left: test.size, pause: test.pause, closed: make(chan struct{})}
				begun := time.Now()
				read(b)
				if took := time.Since(begun); took != test.want {
					t.Errorf("%s, %s: waited for %s, want %s", way, name, took, test.want)
				}
				<-b.closed
			})
		}
	}
}

// TestSkippedSlowly: a registry that ignores ranges must send what is thrown away at a
// minimal rate.
func TestSkippedSlowly(t *testing.T) {
	for name, test := range map[string]struct {
		n     int
		pause time.Duration
		slow  bool
	}{
		"a byte at a time": {1, 5 * time.Second, true},
		"10 KiB/s":         {10 << 10, time.Second, true},
		"80 KiB/s":         {8 << 10, 100 * time.Millisecond, false},
		"fast":             {1 << 20, time.Millisecond, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			desc := ocispec.Descriptor{Digest: digest.FromString("blob"), Size: 20 << 20}
			s := &stream{repo: &Repository{}, desc: desc, start: 15 << 20, next: 15 << 20, end: 16 << 20}
			b := &trickle{n: test.n, left: 20 << 20, pause: test.pause, closed: make(chan struct{})}
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://example.org/", nil)
			begun := time.Now()
			err := s.skip(&call{op: "pull blob", host: "example.org"}, &http.Response{Body: b, Request: req, ContentLength: desc.Size})
			if !test.slow {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				return
			}
			if wantError(t, err, Timeout, "16 KiB/s"); time.Since(begun) > 2*pacePeriod {
				t.Errorf("%s: after %s", name, time.Since(begun))
			}
		})
	}
}
