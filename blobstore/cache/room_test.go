package cache_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/blobstore/cache"
	"github.com/waveproxy/waveproxy/blobstore/storetest"
)

// kilobytes returns n blobs of 1000 bytes.
func kilobytes(n int) [][]byte {
	var blobs [][]byte
	for i := range n {
		blobs = append(blobs, storetest.Bytes(1000, fmt.Sprint("kilobyte", i)))
	}
	return blobs
}

func fillAll(t *testing.T, c *cache.Cache, blobs ...[]byte) {
	t.Helper()
	for _, b := range blobs {
		wantStored(t, c, b, (&source{data: b}).fetch)
		if err := c.Check(); err != nil {
			t.Error(err)
		}
	}
}

func TestEvictLeastRecentlyUsed(t *testing.T) {
	dir := t.TempDir()
	c := openCache(t, dir, 3500)
	b := kilobytes(5)
	fillAll(t, c, b[0], b[1], b[2])
	open(t, c, descriptor(b[0]), noFetch)
	fillAll(t, c, b[3])
	wantFiles(t, dir, b[0], b[2], b[3])

	// A blob that is being read loses its name, not its bytes.
	reading := open(t, c, descriptor(b[2]), noFetch)
	fillAll(t, c, b[0], b[3], b[4])
	wantFiles(t, dir, b[0], b[3], b[4])
	wantRest(t, reading, b[2])

	large := storetest.Bytes(3000, "large")
	fillAll(t, c, large)
	wantFiles(t, dir, large)
}

func TestRestartKeepsOrder(t *testing.T) {
	dir := t.TempDir()
	b := kilobytes(4)
	c := openCache(t, dir, 4000)
	fillAll(t, c, b...)
	c.Close()
	now := time.Now()
	for i, age := range []time.Duration{5 * time.Hour, 2 * time.Hour, 3 * time.Hour, 4 * time.Hour} {
		if err := os.Chtimes(file(dir, b[i]), now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"/.tmp-123", "/notes.txt"} {
		if err := os.WriteFile(dir+name, b[0], 0o600); err != nil {
			t.Fatal(err)
		}
	}

	c = openCache(t, dir, 4000)
	open(t, c, descriptor(b[0]), noFetch) // the oldest becomes the most recent, on disk as well
	c.Close()
	c = openCache(t, dir, 2999)
	if err := os.Remove(dir + "/notes.txt"); err != nil {
		t.Errorf("a file that is none of ours: %v", err)
	}
	wantFiles(t, dir, b[0], b[1])
	if err := c.Check(); err != nil {
		t.Error(err)
	}
}

func TestNoRoom(t *testing.T) {
	dir := t.TempDir()
	c := openCache(t, dir, 2500)
	b := kilobytes(3)
	fillAll(t, c, b[0])
	large := storetest.Bytes(2501, "large")
	if _, err := c.Open(t.Context(), reader, descriptor(large), noFetch); !errors.Is(err, cache.ErrUnavailable) {
		t.Errorf("open what is larger than the cache: %v", err)
	}
	wantFiles(t, dir, b[0]) // not evicted for a blob that does not fit

	// The sizes in descriptors evict no blob, however large their sum is.
	fetch1, fetched1 := hand()
	fetch2, fetched2 := hand()
	two := storetest.Bytes(2000, "two")
	r1 := open(t, c, descriptor(two), fetch1)
	r2 := open(t, c, descriptor(b[2]), fetch2)
	up1, up2 := fetched1(), fetched2()
	up1.Write(two[:1400])
	wantStart(t, r1, two[:1400])
	if err := c.Check(); err != nil {
		t.Error(err)
	}
	wantUnfinished(t, dir, 2, b[0])

	// Bytes that have arrived do. If running fills take all the room, the readers
	// continue with fetches of their own.
	up1.Write(two[1400:])
	up1.Close()
	wantRest(t, r1, two[1400:])
	c.WaitFills(1)
	wantUnfinished(t, dir, 1, two)
	src := &source{data: b[1]}
	third := open(t, c, descriptor(b[1]), src.fetch)
	up2.Write(b[2][:900])
	wantStart(t, r2, b[2][:900])
	wantRest(t, third, b[1])
	up2.CloseWithError(errors.New("gone"))
	if _, err := r2.Read(make([]byte, 1)); err == nil {
		t.Error("no error from a fill that failed")
	}
	c.Wait()
	fillAll(t, c, b[0])
	wantFiles(t, dir, b[0], b[1])
}

func wantStart(t *testing.T, r io.Reader, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("read: %v", err)
	}
}

// wantUnfinished checks that the blobs are stored and that n fills run.
func wantUnfinished(t *testing.T, dir string, n int, blobs ...[]byte) {
	t.Helper()
	temps, err := filepath.Glob(filepath.Join(dir, ".tmp-*"))
	if err != nil || len(temps) != n {
		t.Errorf("%d unfinished files, want %d: %v", len(temps), n, err)
	}
	for _, b := range blobs {
		if _, err := os.Stat(file(dir, b)); err != nil {
			t.Error(err)
		}
	}
}
