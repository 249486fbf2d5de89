package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/blobstore/cache"
	"github.com/waveproxy/waveproxy/blobstore/storetest"
)

// startServer serves one blob.
func startServer(t *testing.T, tls bool, c *cache.Cache, d ocispec.Descriptor, fetch cache.Fetch) (get func(rng string) (*http.Response, error)) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serve(t, c, w, r, d, fetch)
	}))
	if tls {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	return func(rng string) (*http.Response, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
		if err != nil {
			return nil, err
		}
		if rng != "" {
			req.Header.Set("Range", rng)
		}
		return srv.Client().Do(req)
	}
}

func TestServeColdBlobOnce(t *testing.T) {
	c := openCache(t, t.TempDir(), 1<<20)
	data := storetest.Bytes(400_000, "serve")
	src := &source{data: data}
	begin := make(chan bool)
	get := startServer(t, false, c, descriptor(data), func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		<-begin
		return src.fetch(ctx, offset)
	})
	tests := []struct {
		rng    string
		status int
		want   []byte
	}{
		{"", 200, data},
		{"bytes=0-", 206, data},
		{"bytes=0-0", 206, data[:1]},
		{"bytes=1000-99999", 206, data[1000:100_000]},
		{"bytes=399999-", 206, data[399_999:]},
		{"bytes=-5", 206, data[399_995:]},
		{"bytes=400000-", 416, nil},
		{"bytes=-0", 416, nil},
		{"bytes=399990-99999999999999999999", 206, data[399_990:]},
		{"bytes=0-9,20-29", 200, data},
	}
	var clients sync.WaitGroup
	check := func(i int) {
		test := tests[i%len(tests)]
		resp, err := get(test.rng)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != test.status || !bytes.Equal(got, test.want) {
			t.Errorf("range %q: status %d, %d bytes, error %v; want status %d, %d bytes",
				test.rng, resp.StatusCode, len(got), err, test.status, len(test.want))
		}
	}
	for i := range 4 * len(tests) {
		clients.Go(func() { check(i) })
	}
	close(begin)
	clients.Wait()
	c.Wait()
	for i := range tests { // now from the file
		check(i)
	}
	if n := src.calls.Load(); n != 1 {
		t.Errorf("%d fetches, want 1", n)
	}
}

// Bytes that the upstream has sent never wait in a buffer.
func TestServeSlowUpstream(t *testing.T) {
	for _, tls := range []bool{false, true} {
		c := openCache(t, t.TempDir(), 1<<20)
		data := storetest.Bytes(3000, "slow")
		fetch, fetched := hand()
		get := startServer(t, tls, c, descriptor(data), fetch)
		resp, err := get("")
		if err != nil {
			t.Fatal(err)
		}
		upstream := fetched()
		got := make([]byte, len(data))
		for i := range got {
			if i == len(got)-1 { // held back until it is known to be right
				upstream.Write(data[i:])
				upstream.Close()
			} else if i%700 == 0 {
				upstream.Write(data[i:min(i+700, len(data)-1)])
			}
			if _, err := io.ReadFull(resp.Body, got[i:i+1]); err != nil || got[i] != data[i] {
				t.Fatalf("byte %d: %v", i, err)
			}
		}
		resp.Body.Close()
	}
}

func TestServeAborts(t *testing.T) {
	data := storetest.Bytes(300_000, "abort")
	for name, src := range map[string]*source{
		"wrong": {data: append(data[:len(data)-1:len(data)-1], 'x')},
		"cut":   {data: data[:200_000], err: errors.New("reset")},
	} {
		c := openCache(t, t.TempDir(), 1<<20)
		get := startServer(t, false, c, descriptor(data), src.fetch)
		resp, err := get("")
		if err != nil {
			continue // aborted before the headers were sent
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil || len(got) >= len(data) {
			t.Errorf("%s: %d bytes, error %v; want an error", name, len(got), err)
		}
	}
}

// fileWriter accepts only the readers that a TCP connection sends with sendfile.
type fileWriter struct {
	header http.Header
	body   bytes.Buffer
}

func (w *fileWriter) Header() http.Header { return w.header }
func (w *fileWriter) WriteHeader(int)     {}
func (w *fileWriter) Write([]byte) (int, error) {
	return 0, errors.New("written by way of memory")
}
func (w *fileWriter) ReadFrom(r io.Reader) (int64, error) {
	part, ok := r.(*io.LimitedReader)
	if ok {
		_, ok = part.R.(*os.File)
	}
	if !ok {
		return 0, fmt.Errorf("read from %T", r)
	}
	return w.body.ReadFrom(r)
}

func TestServeGivesFile(t *testing.T) {
	c := openCache(t, t.TempDir(), 4<<20)
	data := storetest.Bytes(3<<20, "file")
	src := &source{data: data}
	for _, what := range []string{"fill", "hit"} {
		w := &fileWriter{header: http.Header{"Content-Type": {"application/octet-stream"}}}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if err := open(t, c, descriptor(data), src.fetch).Serve(w, r); err != nil || !bytes.Equal(w.body.Bytes(), data) {
			t.Errorf("%s: %d bytes, error %v", what, w.body.Len(), err)
		}
		c.Wait()
	}
}
