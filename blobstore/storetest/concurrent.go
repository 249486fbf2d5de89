package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/blobstore"
)

func testConcurrentSame(t *testing.T, s blobstore.Store) {
	data := Bytes(200_000, "same")
	d := digest.FromBytes(data)
	each(16, func(int) {
		if err := s.Put(t.Context(), d, iotest.HalfReader(bytes.NewReader(data))); err != nil {
			t.Errorf("put: %v", err)
			return
		}
		holds(t, s, d, data) // as soon as any Put has returned
	})
}

func testConcurrentDifferent(t *testing.T, s blobstore.Store) {
	each(16, func(i int) {
		for j := range 4 {
			data := Bytes(10_000+i, fmt.Sprint("different", i, j))
			if err := s.Put(t.Context(), digest.FromBytes(data), bytes.NewReader(data)); err != nil {
				t.Errorf("put: %v", err)
				return
			}
			holds(t, s, digest.FromBytes(data), data)
		}
	})
}

// Wrong bytes that arrive at the same time must neither replace the right ones
// nor keep them out.
func testConcurrentMismatch(t *testing.T, s blobstore.Store) {
	data := Bytes(100_000, "right")
	d := digest.FromBytes(data)
	each(16, func(i int) {
		if i%2 == 0 {
			if err := s.Put(t.Context(), d, bytes.NewReader(data)); err != nil {
				t.Errorf("put: %v", err)
			}
			return
		}
		err := s.Put(t.Context(), d, bytes.NewReader(data[:i*1000]))
		if err != nil && !errors.Is(err, blobstore.ErrMismatch) { // nil: the blob was there
			t.Errorf("put truncated: %v", err)
		}
	})
	holds(t, s, d, data)
}

func each(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}
