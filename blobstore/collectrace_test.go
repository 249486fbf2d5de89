package blobstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/blobstore/storetest"
)

// TestCollectRaces lets servers mint, pull and collect at once while the clock runs. Every
// name that has not ended has all of its blobs at every moment.
func TestCollectRaces(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	var mu sync.Mutex
	promised := map[string]time.Time{} // records, and until when
	var wg sync.WaitGroup
	for server := range 3 {
		s := openAt(t, dir, c)
		for range 2 {
			wg.Go(func() {
				for i := range 150 {
					switch rand.IntN(6) {
					case 0, 1:
						ttl := time.Duration(1+rand.IntN(60)) * time.Hour
						end := c.now().Add(ttl)
						record := fmt.Sprint(blobstore.Until(end), "grants/", rand.IntN(8), "a")
						parts := partsOf(manifest, script, tool)
						if rand.IntN(2) == 0 { // as layers of URLs are stored
							if err := s.Put(t.Context(), digest.FromBytes(tool), bytes.NewReader(tool)); err != nil {
								t.Error(err)
							}
						}
						if err := s.PutPack(t.Context(), record, []byte("grant"), parts); err != nil {
							if c.now().Before(end) { // else it took days, by this clock
								t.Error(err)
							}
							continue
						}
						mu.Lock()
						if end.After(promised[record]) {
							promised[record] = end
						}
						mu.Unlock()
					case 2:
						c.advance(time.Duration(rand.IntN(6)) * time.Hour)
					case 3:
						_, err := s.Collect(t.Context(), blobstore.CollectOptions{Retention: 20 * time.Hour})
						if err != nil && !errors.Is(err, blobstore.ErrCollecting) {
							t.Errorf("server %d, step %d: %v", server, i, err)
						}
					default:
						pullPromised(t, s, c, &mu, promised)
					}
				}
			})
		}
	}
	wg.Wait()
	c.advance(120 * time.Hour)
	collect(t, openAt(t, dir, c))
	for _, path := range below(t, dir) {
		if strings.HasPrefix(path, "until") {
			t.Errorf("left for ever: %s", path)
		}
	}
}

// pullPromised reads the blobs of a record that has not ended.
func pullPromised(t *testing.T, s *blobstore.Dir, c *clock, mu *sync.Mutex, promised map[string]time.Time) {
	t.Helper()
	mu.Lock()
	var record string
	for name, end := range promised {
		if record = ""; c.now().Before(end) {
			record = name
			break
		}
		delete(promised, name)
	}
	end := promised[record]
	mu.Unlock()
	if record == "" {
		return
	}
	for _, blob := range [][]byte{manifest, script, tool} {
		f, err := s.In(record).Open(t.Context(), digest.FromBytes(blob))
		if err == nil {
			f.Close()
		} else if c.now().Before(end) {
			t.Errorf("%s is promised until %s: %v", record, end, err)
		}
	}
}

// A use and a collection of the same blob: either the use wins and the blob stays, or it
// is not found.
func TestUseRacesCollection(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	collecting, using := openAt(t, dir, c), openAt(t, dir, c)
	kept := 0
	for i := range 200 {
		blob := storetest.Bytes(100, fmt.Sprint(i))
		d := digest.FromBytes(blob)
		if err := using.Put(t.Context(), d, bytes.NewReader(blob)); err != nil {
			t.Fatal(err)
		}
		c.advance(retention + time.Hour)
		var wg sync.WaitGroup
		var found error
		wg.Go(func() { collect(t, collecting) })
		wg.Go(func() {
			time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
			found = using.Verify(t.Context(), d)
		})
		wg.Wait()
		if found == nil {
			kept++
			wantBlob(t, using, blob)
		} else if !errors.Is(found, blobstore.ErrNotFound) {
			t.Error(found)
		}
	}
	t.Logf("%d of 200 uses were first", kept)
}
