package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/blobstore/cache"
	"github.com/waveproxy/waveproxy/blobstore/storetest"
)

var (
	errRefused = errors.New("refused")
	errReset   = errors.New("reset")
)

// faulty is an upstream whose answers are wrong half of the time. Its bytes differ
// from the blob in the last byte only, if at all, so that a test can compare every
// byte that readers get.
func faulty(data []byte) cache.Fetch {
	wrong := append(data[:len(data)-1:len(data)-1], data[len(data)-1]+1)
	return func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		half := data[offset : offset+rand.Int64N(int64(len(data))-offset+1)]
		var r io.Reader
		switch rand.IntN(10) {
		case 0:
			return nil, errRefused
		case 1: // short
			r = bytes.NewReader(half[:max(0, len(half)-1)])
		case 2: // long
			r = bytes.NewReader(append(data[offset:len(data):len(data)], 'x'))
		case 3:
			r = bytes.NewReader(wrong[offset:])
		case 4:
			r = io.MultiReader(bytes.NewReader(half), readerFunc(func([]byte) (int, error) { return 0, errReset }))
		default:
			r = bytes.NewReader(data[offset:])
		}
		slow := rand.IntN(4) == 0
		return io.NopCloser(readerFunc(func(p []byte) (int, error) {
			if slow {
				select {
				case <-time.After(rand.N(time.Millisecond)):
				case <-ctx.Done():
				}
			}
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
			return r.Read(p[:min(len(p), 1+rand.IntN(100_000))])
		})), nil
	}
}

// readSome reads a random part of the blob and compares it. complete says that it
// read the part to its end.
func readSome(ctx context.Context, c *cache.Cache, data []byte) (complete bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if rand.IntN(8) == 0 {
		defer time.AfterFunc(rand.N(5*time.Millisecond), cancel).Stop()
	}
	b, err := c.Open(ctx, reader, descriptor(data), faulty(data))
	if err != nil {
		return false, err
	}
	defer b.Close()
	start, length := 0, len(data)
	if rand.IntN(2) == 0 {
		start = rand.IntN(len(data))
		length = rand.IntN(len(data) - start + 1)
	}
	want := data[start : start+length]
	var got []byte
	if rand.IntN(2) == 0 {
		if _, err := b.Seek(int64(start), io.SeekStart); err != nil {
			return false, err
		}
		got, err = io.ReadAll(io.LimitReader(b, int64(length)))
	} else if length > 0 {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", start, start+length-1))
		w := httptest.NewRecorder()
		w.Header().Set("Content-Type", "application/octet-stream")
		err = b.Serve(w, r)
		got = w.Body.Bytes()
	}
	if b.Alone() && len(got) > 0 {
		got, want = got[:len(got)-1], want[:max(0, len(want)-1)] // streamed as it came: the last byte may be wrong
	}
	if !bytes.HasPrefix(want, got) {
		return false, fmt.Errorf("other bytes, from %d to %d", start, start+len(got))
	}
	if err == nil && len(got) < len(want) {
		return false, fmt.Errorf("%d bytes at %d, want %d, and no error", len(got), start, len(want))
	}
	return err == nil, err
}

func TestStress(t *testing.T) {
	const (
		readers = 64
		rounds  = 40
		blobs   = 24
	)
	var contents [][]byte
	total := int64(0)
	for i := range blobs {
		data := storetest.Bytes(1+rand.IntN(200_000), fmt.Sprint("stress", i))
		contents = append(contents, data)
		total += int64(len(data))
	}
	dir := t.TempDir()
	c := openCache(t, dir, total/3+200_000)
	var complete, unavailable, failed atomic.Int32
	var running sync.WaitGroup
	for range readers {
		running.Go(func() {
			for range rounds {
				// Blobs with low indexes are read more often.
				data := contents[rand.IntN(1+rand.IntN(blobs))]
				ok, err := readSome(t.Context(), c, data)
				switch {
				case ok:
					complete.Add(1)
				case errors.Is(err, cache.ErrUnavailable):
					unavailable.Add(1)
				case errors.Is(err, errRefused), errors.Is(err, errReset), errors.Is(err, context.Canceled),
					errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, blobstore.ErrMismatch):
					failed.Add(1)
				default:
					t.Error(err)
				}
				if err := c.Check(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	c.Wait()
	t.Logf("%d complete, %d unavailable, %d failed", complete.Load(), unavailable.Load(), failed.Load())
	if complete.Load() == 0 || failed.Load() == 0 {
		t.Error("a one-sided run proves nothing")
	}
	if err := c.Check(); err != nil {
		t.Error(err)
	}
	if verifyFiles(t, dir) == 0 {
		t.Error("nothing was stored")
	}
}
