package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"

	"github.com/waveproxy/waveproxy/blobstore/cache"
	"github.com/waveproxy/waveproxy/internal/byterange"
)

// childVar names the child that this test binary runs as, instead of its tests.
const childVar = "CACHE_TEST_CHILD"

var children = map[string]func(dir string) error{
	"fill": fillChild,
	"full": fullChild,
}

func TestMain(m *testing.M) {
	if name := os.Getenv(childVar); name != "" {
		if err := children[name](os.Args[1]); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func openCache(t testing.TB, dir string, max int64) *cache.Cache {
	t.Helper()
	c, err := cache.Open(dir, max, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// reader is a reader that may read everything its registry has.
var reader = cache.Reader{Registry: "https://registry.example.org", Access: "app", Proven: true}

func descriptor(data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
}

// source is an upstream that has one blob, right or wrong.
type source struct {
	data  []byte
	err   error // instead of the end
	calls atomic.Int32
}

func (s *source) fetch(_ context.Context, offset int64) (io.ReadCloser, error) {
	s.calls.Add(1)
	r := io.Reader(bytes.NewReader(s.data[offset:]))
	if s.err != nil {
		r = io.MultiReader(r, readerFunc(func([]byte) (int, error) { return 0, s.err }))
	}
	return io.NopCloser(r), nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// hand returns a fetch function whose body the test writes, and a function that
// waits for the call.
func hand() (cache.Fetch, func() *io.PipeWriter) {
	calls := make(chan *io.PipeWriter, 1)
	fetch := func(ctx context.Context, _ int64) (io.ReadCloser, error) {
		r, w := io.Pipe()
		context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
		calls <- w
		return r, nil
	}
	return fetch, func() *io.PipeWriter { return <-calls }
}

func noFetch(context.Context, int64) (io.ReadCloser, error) {
	return nil, fmt.Errorf("this fetch function was not to be called")
}

func open(t testing.TB, c *cache.Cache, d ocispec.Descriptor, fetch cache.Fetch) *cache.Blob {
	t.Helper()
	b, err := c.Open(t.Context(), reader, d, fetch)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func wantRest(t testing.TB, b io.Reader, want []byte) {
	t.Helper()
	if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("read %d bytes, error %v; want %d bytes", len(got), err, len(want))
	}
}

// wantStored reads the blob and leaves it stored.
func wantStored(t testing.TB, c *cache.Cache, data []byte, fetch cache.Fetch) {
	t.Helper()
	b := open(t, c, descriptor(data), fetch)
	wantRest(t, b, data)
	b.Close()
	c.Wait()
	if b = open(t, c, descriptor(data), noFetch); !b.Stored() {
		t.Error("the blob was not stored")
	}
	b.Close()
}

// wantFiles checks that the directory has the files of the blobs and no others.
func wantFiles(t testing.TB, dir string, blobs ...[]byte) {
	t.Helper()
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{".lock": true}
	for _, b := range blobs {
		want[filepath.Base(file(dir, b))] = true
	}
	for _, e := range names {
		if !want[e.Name()] {
			t.Errorf("file %s, want none of that name", e.Name())
		}
		delete(want, e.Name())
	}
	for name := range want {
		t.Errorf("no file %s", name)
	}
}

func file(dir string, blob []byte) string {
	return cache.File(dir, reader, descriptor(blob))
}

// serve is a handler that has only the cache.
func serve(t testing.TB, c *cache.Cache, w http.ResponseWriter, r *http.Request, d ocispec.Descriptor, fetch cache.Fetch) {
	b, err := c.Open(r.Context(), reader, d, fetch)
	if err != nil {
		t.Error(err)
		return
	}
	defer b.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	err = b.Serve(w, r)
	if _, outside := errors.AsType[*byterange.Unsatisfiable](err); outside {
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
	} else if err != nil {
		t.Logf("serve: %v", err)
		panic(http.ErrAbortHandler)
	}
}
