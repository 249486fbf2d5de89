package cache_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/blobstore/cache"
)

// BenchmarkStream and BenchmarkFill send large blobs from an upstream to a
// client, without the cache and through a fill. The cost of filling is the
// difference between their CPU seconds per gigabyte, which include the upstream
// and the client.
func BenchmarkStream(b *testing.B) {
	each(b, func(b *testing.B, up *upstream) {
		measure(b, func(w http.ResponseWriter, r *http.Request, d ocispec.Descriptor) {
			body, err := up.fetch(d)(r.Context(), 0)
			if err != nil {
				b.Error(err)
				return
			}
			defer body.Close()
			w.Header().Set("Content-Length", strconv.FormatInt(d.Size, 10))
			io.CopyBuffer(struct{ io.Writer }{w}, body, make([]byte, 256<<10))
		}, up)
	})
}

func BenchmarkFill(b *testing.B) {
	each(b, func(b *testing.B, up *upstream) {
		c := openCache(b, b.TempDir(), 2*benchSize) // never holds the next blob
		measure(b, func(w http.ResponseWriter, r *http.Request, d ocispec.Descriptor) {
			serve(b, c, w, r, d, up.fetch(d))
		}, up)
	})
}

func BenchmarkHit(b *testing.B) {
	up := newUpstream(b, false)
	c := openCache(b, b.TempDir(), 3*benchSize)
	for _, d := range up.blobs {
		blob, err := c.Open(b.Context(), reader, d, up.fetch(d))
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, blob)
		blob.Close()
	}
	c.Wait()
	measure(b, func(w http.ResponseWriter, r *http.Request, d ocispec.Descriptor) {
		serve(b, c, w, r, d, up.fetch(d))
	}, up)
}

// BenchmarkOpen measures a hit without reading its bytes.
func BenchmarkOpen(b *testing.B) {
	c := openCache(b, b.TempDir(), 1<<20)
	src := &source{data: []byte("small")}
	wantStored(b, c, src.data, src.fetch)
	d := descriptor(src.data)
	b.ReportAllocs()
	for b.Loop() {
		blob, err := c.Open(b.Context(), reader, d, noFetch)
		if err != nil {
			b.Fatal(err)
		}
		blob.Close()
	}
}

const benchSize = 256 << 20

func each(b *testing.B, f func(*testing.B, *upstream)) {
	for _, name := range []string{"http", "https"} {
		b.Run(name, func(b *testing.B) { f(b, newUpstream(b, name == "https")) })
	}
}

// upstream has three large blobs.
type upstream struct {
	server *httptest.Server
	blobs  []ocispec.Descriptor
}

func newUpstream(b *testing.B, tls bool) *upstream {
	content := map[string][]byte{}
	up := &upstream{server: httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data := content[r.URL.Path]
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		w.Write(data)
	}))}
	for i := range 3 {
		data := bytes.Repeat([]byte{byte(i)}, benchSize)
		d := descriptor(data)
		content["/"+d.Digest.String()] = data
		up.blobs = append(up.blobs, d)
	}
	if tls {
		up.server.StartTLS()
	} else {
		up.server.Start()
	}
	b.Cleanup(up.server.Close)
	return up
}

func (up *upstream) fetch(d ocispec.Descriptor) cache.Fetch {
	return func(ctx context.Context, _ int64) (io.ReadCloser, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, up.server.URL+"/"+d.Digest.String(), nil)
		if err != nil {
			return nil, err
		}
		resp, err := up.server.Client().Do(req)
		if err != nil {
			return nil, err
		}
		return resp.Body, nil
	}
}

// measure lets a client get the upstream's blobs in turn from the handler.
func measure(b *testing.B, handler func(http.ResponseWriter, *http.Request, ocispec.Descriptor), up *upstream) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, err := digest.Parse(r.URL.Path[1:])
		if err != nil {
			b.Error(err)
		}
		handler(w, r, ocispec.Descriptor{Digest: d, Size: benchSize})
	}))
	defer srv.Close()
	buf := make([]byte, 256<<10)
	b.SetBytes(benchSize)
	b.ReportAllocs()
	before := cpuTime(b)
	for i := 0; b.Loop(); i++ {
		resp, err := srv.Client().Get(srv.URL + "/" + up.blobs[i%3].Digest.String())
		if err != nil {
			b.Fatal(err)
		}
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, buf)
		if err != nil || n != benchSize {
			b.Fatalf("got %d bytes, error %v", n, err)
		}
		resp.Body.Close()
	}
	b.ReportMetric((cpuTime(b)-before).Seconds()*1e9/benchSize/float64(b.N), "cpu-s/GB")
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
