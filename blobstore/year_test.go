package blobstore_test

import (
	"bytes"
	"flag"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/blobstore/storetest"
)

var (
	grantsADay = flag.Int("grants", 2, "how many grants a day TestYear mints")
	days       = flag.Int("days", 90, "how many days go by in TestYear")
)

// TestYear lets months go by, and with -days 365 a year: images are requested and pulled through recipes, and a
// server collects each day. Every name that has not expired is served, and files, bytes
// and memory are as many at the end as after two months.
func TestYear(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s := openAt(t, dir, c)
	layer := storetest.Bytes(70_000, "the layer of all")
	if err := s.Put(t.Context(), digest.FromBytes(layer), bytes.NewReader(layer)); err != nil {
		t.Fatal(err)
	}
	type grant struct {
		record string
		text   []byte
		end    time.Time
	}
	var good []grant
	var after blobstore.Usage // two months
	var heap uint64
	for day := range *days {
		for i := range *grantsADay {
			g := grant{text: fmt.Appendf(nil, "grant %d of day %d", i, day), end: c.now().Add(36 * time.Hour)}
			g.record = blobstore.Until(g.end) + "grants/" + digest.FromBytes(g.text).Encoded()[:24]
			putPack(t, s, g.record, string(g.text), g.text, layer)
			good = append(good, g)
		}
		putPack(t, s, fmt.Sprint("named/a/images/", day/3), "an image of a recipe", manifest)
		for len(good) > 0 && !c.now().Before(good[0].end) {
			good = good[1:]
		}
		for _, g := range []grant{good[0], good[len(good)/2], good[len(good)-1]} {
			wantBlob(t, s.In(g.record), g.text)
			wantBlob(t, s.In(g.record), layer)
		}
		collect(t, s)
		switch day {
		case 60:
			after, heap = usage(t, s)
		case *days - 1:
			now, heapNow := usage(t, s)
			if now.Files > after.Files+2 || now.Bytes > after.Bytes+after.Bytes/10 || heapNow > heap+4<<20 { // directories that are remembered are few KiB a day, and bounded
				t.Errorf("after two months %+v and %d KiB of memory, in the end %+v and %d KiB", after, heap>>10, now, heapNow>>10)
			}
			t.Logf("after two months %+v and %d KiB of memory, in the end %+v and %d KiB", after, heap>>10, now, heapNow>>10)
		}
		c.advance(24 * time.Hour)
	}
}

// usage returns what the store and the process take.
func usage(t *testing.T, s *blobstore.Dir) (all blobstore.Usage, heap uint64) {
	t.Helper()
	stats, err := s.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range stats {
		all.Files += u.Files
		all.Bytes += u.Bytes
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return all, m.HeapAlloc
}
