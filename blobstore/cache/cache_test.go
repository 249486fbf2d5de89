package cache_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/blobstore/cache"
	"github.com/waveproxy/waveproxy/blobstore/storetest"
)

func TestFillThenHit(t *testing.T) {
	for _, size := range []int{0, 1, 1000, 64 << 10, 64<<10 + 1, 3<<20 + 7} {
		for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			dir := t.TempDir()
			c := openCache(t, dir, int64(size))
			src := &source{data: storetest.Bytes(size, "hit")}
			d := ocispec.Descriptor{Digest: algorithm.FromBytes(src.data), Size: int64(size)}
			b := open(t, c, d, src.fetch)
			if b.Stored() {
				t.Errorf("%d bytes, %s: stored before it was fetched", size, algorithm)
			}
			wantRest(t, b, src.data)
			c.Wait()
			if err := c.Check(); err != nil {
				t.Error(err)
			}
			c.Close()
			c = openCache(t, dir, int64(size))
			if got := c.Available(reader.Registry, d.Digest); got != int64(size) {
				t.Errorf("%d bytes available, want %d", got, size)
			}
			b = open(t, c, d, noFetch)
			if !b.Stored() {
				t.Errorf("%d bytes, %s: not stored", size, algorithm)
			}
			wantRest(t, b, src.data)
			if n := src.calls.Load(); n != 1 {
				t.Errorf("%d bytes, %s: %d fetches, want 1", size, algorithm, n)
			}
		}
	}
}

func TestReadersShareFill(t *testing.T) {
	c := openCache(t, t.TempDir(), 1<<20)
	data := storetest.Bytes(300_000, "share")
	d := descriptor(data)
	fetch, fetched := hand()
	first := open(t, c, d, fetch)
	upstream := fetched()

	// A byte can be read as soon as it was sent.
	upstream.Write(data[:1])
	one := make([]byte, 100)
	if n, err := first.Read(one); n != 1 || err != nil || one[0] != data[0] {
		t.Fatalf("read %d bytes, error %v; want the first", n, err)
	}
	if got := c.Available(reader.Registry, d.Digest); got != 1 {
		t.Errorf("%d bytes available, want 1", got)
	}

	var readers sync.WaitGroup
	for i := range 20 {
		b := open(t, c, d, noFetch)
		start := int64(i * 14_000)
		if _, err := b.Seek(start, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		readers.Go(func() { wantRest(t, b, data[start:]) })
	}
	first.Close() // the reader that began the fill
	for p := data[1:]; len(p) > 0; p = p[min(999, len(p)):] {
		if _, err := upstream.Write(p[:min(999, len(p))]); err != nil {
			t.Fatal(err)
		}
	}
	upstream.Close()
	readers.Wait()
	wantStored(t, c, data, noFetch)
}

func TestFillGoesOnAlone(t *testing.T) {
	c := openCache(t, t.TempDir(), 1<<20)
	data := storetest.Bytes(200_000, "alone")
	fetch, fetched := hand()
	ctx, cancel := context.WithCancel(t.Context())
	b, err := c.Open(ctx, reader, descriptor(data), fetch)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := b.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("read after the end of the context: %v", err)
	}
	b.Close()
	upstream := fetched()
	upstream.Write(data)
	upstream.Close()
	c.Wait()
	wantStored(t, c, data, noFetch)
}

func TestBadUpstream(t *testing.T) {
	data := storetest.Bytes(500_000, "bad")
	wrong := append(data[:len(data)-1:len(data)-1], 'x')
	reset := errors.New("connection reset")
	for name, test := range map[string]struct {
		src  *source
		want error
	}{
		"wrong":      {&source{data: wrong}, blobstore.ErrMismatch},
		"short":      {&source{data: data[:400_000]}, io.ErrUnexpectedEOF},
		"empty":      {&source{}, io.ErrUnexpectedEOF},
		"long":       {&source{data: append(data[:len(data):len(data)], 'x')}, blobstore.ErrMismatch},
		"cut":        {&source{data: data[:400_000], err: reset}, reset},
		"cut at end": {&source{data: data, err: reset}, reset},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c := openCache(t, dir, 1<<20)
			d := descriptor(data)
			got, err := io.ReadAll(open(t, c, d, test.src.fetch))
			if !errors.Is(err, test.want) || errors.Is(err, cache.ErrUnavailable) {
				t.Errorf("error %v, want %v", err, test.want)
			}
			if len(got) >= len(data) || string(got) != string(data[:len(got)]) {
				t.Errorf("read %d bytes, want the beginning of %d", len(got), len(data))
			}
			wantFiles(t, dir)
			if err := c.Check(); err != nil {
				t.Error(err)
			}
			wantStored(t, c, data, (&source{data: data}).fetch)
		})
	}
}

// The error of a fetch is final for the caller of that fetch. Fetches of other
// callers may succeed.
func TestFetchFails(t *testing.T) {
	dir := t.TempDir()
	c := openCache(t, dir, 1<<20)
	data := storetest.Bytes(1000, "refused")
	refused := errors.New("401 Unauthorized")
	asked, answer := make(chan bool), make(chan bool)
	errs := make(chan error, 2)
	go func() {
		_, err := c.Open(t.Context(), reader, descriptor(data), func(context.Context, int64) (io.ReadCloser, error) {
			close(asked)
			<-answer
			return nil, refused
		})
		errs <- err
	}()
	<-asked
	waiting := &signalContext{Context: t.Context(), waits: make(chan bool)}
	go func() {
		_, err := c.Open(waiting, reader, descriptor(data), noFetch)
		errs <- err
	}()
	<-waiting.waits
	close(answer)
	var shared int
	for range 2 {
		err := <-errs
		if !errors.Is(err, refused) {
			t.Errorf("error %v, want that of the fetch", err)
		}
		if errors.Is(err, cache.ErrUnavailable) {
			shared++
		}
	}
	if shared != 1 {
		t.Errorf("%d errors are ErrUnavailable, want one", shared)
	}
	wantFiles(t, dir)
	wantStored(t, c, data, (&source{data: data}).fetch)
}

// signalContext signals when its Done is first called.
type signalContext struct {
	context.Context
	waits chan bool
	once  sync.Once
}

func (c *signalContext) Done() <-chan struct{} {
	c.once.Do(func() { close(c.waits) })
	return c.Context.Done()
}

func TestOpenEndsWithContext(t *testing.T) {
	c := openCache(t, t.TempDir(), 1<<20)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := c.Open(ctx, reader, descriptor([]byte("x")), func(fill context.Context, _ int64) (io.ReadCloser, error) {
		cancel()
		<-fill.Done() // when the cache is closed
		return nil, fill.Err()
	})
	if !errors.Is(err, context.Canceled) || errors.Is(err, cache.ErrUnavailable) {
		t.Errorf("error %v, want that of the context", err)
	}
}

func TestClose(t *testing.T) {
	dir := t.TempDir()
	c := openCache(t, dir, 1<<20)
	data := storetest.Bytes(1000, "close")
	d := descriptor(data)
	stored := storetest.Bytes(2000, "stored")
	wantStored(t, c, stored, (&source{data: stored}).fetch)
	hit := open(t, c, descriptor(stored), noFetch)

	fetch, fetched := hand()
	src := &source{data: data}
	calls := 0
	follower := open(t, c, d, func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		if calls++; calls == 1 {
			return fetch(ctx, offset)
		}
		return src.fetch(ctx, offset)
	})
	fetched().Write(data[:500])
	half := make([]byte, 500)
	if _, err := io.ReadFull(follower, half); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	wantRest(t, hit, stored)
	wantRest(t, follower, data[500:])
	wantFiles(t, dir, stored)
	for _, b := range [][]byte{data, stored} {
		if _, err := c.Open(t.Context(), reader, descriptor(b), noFetch); !errors.Is(err, cache.ErrUnavailable) {
			t.Errorf("open after close: %v", err)
		}
	}
}

func TestOneProcess(t *testing.T) {
	dir := t.TempDir()
	c1 := openCache(t, dir, 1<<20)
	data := storetest.Bytes(1000, "lock")
	fetch, fetched := hand()
	b := open(t, c1, descriptor(data), fetch)
	c2 := openCache(t, dir, 1<<20)
	if _, err := c2.Open(t.Context(), reader, descriptor(data), noFetch); !errors.Is(err, cache.ErrUnavailable) {
		t.Errorf("open beside another process: %v", err)
	}
	upstream := fetched()
	upstream.Write(data)
	upstream.Close()
	wantRest(t, b, data)
	c1.Wait()
	c1.Close()
	wantStored(t, c2, data, noFetch)
}
