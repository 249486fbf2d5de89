package blobstore_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/blobstore/storetest"
	"github.com/waveproxy/waveproxy/internal/unpack"
)

// TestVerifyShared: after a restart, concurrent requests for one large blob read it
// once, when the client has its turn. A small one does not wait.
func TestVerifyShared(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := openDir(t, dir)
		large, small := storetest.Bytes(5<<20, "large"), storetest.Bytes(1000, "small")
		for _, data := range [][]byte{large, small} {
			if err := s.Put(t.Context(), digest.FromBytes(data), bytes.NewReader(data)); err != nil {
				t.Fatal(err)
			}
		}
		d := digest.FromBytes(large)
		for _, path := range files(t, dir) {
			if strings.HasSuffix(path, d.Encoded()) {
				if err := os.WriteFile(path, large[1:], 0o600); err != nil { // so that each reading says a line
					t.Fatal(err)
				}
			}
		}
		var log bytes.Buffer
		s = openDir(t, dir)
		s.Log = slog.New(slog.NewTextHandler(&log, nil))
		var turns []*unpack.Turn // all that the client may have
		for range max(1, runtime.GOMAXPROCS(0)/2) {
			turn := unpack.New(t.Context())
			if err := turn.Enter(); err != nil {
				t.Fatal(err)
			}
			turns = append(turns, turn)
		}
		var calls sync.WaitGroup
		for range 40 {
			calls.Go(func() {
				if err := s.Verify(t.Context(), d); !errors.Is(err, blobstore.ErrDamaged) {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if log.Len() > 0 {
			t.Error("the blob was read without a turn")
		}
		if err := s.Verify(t.Context(), digest.FromBytes(small)); err != nil {
			t.Errorf("a small blob: %v", err)
		}
		for _, turn := range turns {
			turn.Leave()
		}
		calls.Wait()
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Errorf("40 calls have read the blob %d times", n)
		}
	})
}
