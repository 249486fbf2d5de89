package blobstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/blobstore/storetest"
)

const retention = 30 * 24 * time.Hour

// clock is one that tests move. Safe for concurrent use.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Now()} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func openAt(t testing.TB, dir string, c *clock) *blobstore.Dir {
	t.Helper()
	s, err := blobstore.NewDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	s.Now = c.now
	return s
}

func collect(t testing.TB, s *blobstore.Dir) blobstore.Collected {
	t.Helper()
	done, err := s.Collect(t.Context(), blobstore.CollectOptions{Retention: retention})
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func TestCollectDays(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s := openAt(t, dir, c)
	end := c.now().Add(time.Hour)
	name := blobstore.Until(end) + "grants/0a"
	later := blobstore.Until(end.Add(36*time.Hour)) + "grants/0a"
	if err := s.Put(t.Context(), digest.FromBytes(tool), bytes.NewReader(tool)); err != nil {
		t.Fatal(err)
	}
	putPack(t, s, name, "the grant", manifest, script, tool)
	putPack(t, s, later, "the grant", manifest, script, tool)
	for c.now().Before(end) {
		c.advance(10 * time.Minute)
		if done := collect(t, s); done.Files != 0 {
			t.Fatalf("collected %+v before the token ended", done)
		}
	}
	c.advance(26 * time.Hour)
	dry, err := s.Collect(t.Context(), blobstore.CollectOptions{Retention: retention, DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s.In(name), script)
	done := collect(t, s)
	if done != dry || done.Days != 1 || done.Files != 2 {
		t.Errorf("collected %+v, foretold %+v, want one day with two files", done, dry)
	}
	if _, err := s.Record(t.Context(), name); !errors.Is(err, blobstore.ErrNotFound) {
		t.Errorf("the record of the day that has come: %v", err)
	}
	c.advance(retention) // the blob of all goes, that of the later record stays until its day
	wantBlob(t, openAt(t, dir, newClock()).In(later), tool)
	collect(t, s)
	if got := below(t, dir); !slices.Equal(got, []string{"collect.lock"}) {
		t.Errorf("left: %q", got)
	}
}

func TestCollectUnused(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s := openAt(t, dir, c)
	used, unused := storetest.Bytes(1000, "used"), storetest.Bytes(1000, "unused")
	for _, b := range [][]byte{used, unused, tool} {
		if err := s.Put(t.Context(), digest.FromBytes(b), bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"named/a/images/read", "named/a/images/in-memory", "named/a/images/unused", "layers/put", "documents/a"} {
		putPack(t, s, name, name, manifest)
	}
	for range 20 {
		c.advance(48 * time.Hour)
		wantBlob(t, s, used)
		if _, err := s.Record(t.Context(), "named/a/images/read"); err != nil {
			t.Fatal(err)
		}
		if err := s.Use(t.Context(), "named/a/images/in-memory", []digest.Digest{digest.FromBytes(tool), digest.FromString("absent")}); err != nil {
			t.Fatal(err)
		}
		if err := s.PutRecord(t.Context(), "layers/put", []byte("again")); err != nil {
			t.Fatal(err)
		}
		collect(t, s)
	}
	wantBlob(t, s, used)
	wantBlob(t, s, tool)
	if _, err := s.Open(t.Context(), digest.FromBytes(unused)); !errors.Is(err, blobstore.ErrNotFound) {
		t.Errorf("an unused blob: %v", err)
	}
	for name, kept := range map[string]bool{
		"named/a/images/read": true, "named/a/images/in-memory": true, "layers/put": true, "documents/a": true, "named/a/images/unused": false,
	} {
		if _, err := s.Record(t.Context(), name); (err == nil) != kept {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a killed collection has set aside is found by the next one: what was used meanwhile
// has its name back.
func TestCollectGoesOn(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s := openAt(t, dir, c)
	for _, name := range []string{"named/a/b", "named/a/c"} {
		putPack(t, s, name, name)
		path := filepath.Join(dir, "records", name) + ".record"
		if err := os.Rename(path, filepath.Join(filepath.Dir(path), ".gone-"+filepath.Base(path))); err != nil {
			t.Fatal(err)
		}
		c.advance(retention)
	}
	collect(t, s)
	if got := below(t, dir); !slices.Equal(got, []string{"collect.lock", "records/named/a/c.record"}) {
		t.Errorf("left: %q", got)
	}
}

func TestOneCollects(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s, other := openAt(t, dir, c), openAt(t, dir, c)
	for i := range 300 {
		putPack(t, s, fmt.Sprint("named/a/", i), "x")
	}
	c.advance(retention + time.Hour)
	stop := errors.New("stopped")
	_, err := s.Collect(t.Context(), blobstore.CollectOptions{Retention: retention, Rest: func(ctx context.Context, _ time.Duration) error {
		if _, err := other.Collect(ctx, blobstore.CollectOptions{}); !errors.Is(err, blobstore.ErrCollecting) {
			t.Errorf("a second server: %v, want ErrCollecting", err)
		}
		return stop
	}})
	if !errors.Is(err, stop) {
		t.Fatal(err)
	}
	if n := len(files(t, dir)); n != 300-256+1 {
		t.Errorf("%d files after one step", n)
	}
	if done := collect(t, other); done.Files != 300-256 {
		t.Errorf("the next collection deleted %d files", done.Files)
	}
}

// What servers of version 1 have promised stays until it has ended.
func TestCollectOlder(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	if err := os.Mkdir(filepath.Join(dir, "blobs"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := openAt(t, dir, c)
	old := time.Now().Add(-300 * 24 * time.Hour)
	if err := s.Put(t.Context(), digest.FromBytes(script), bytes.NewReader(script)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"grants/0a", "revoked/1b", "named/a/b"} {
		if err := s.PutRecord(t.Context(), name, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range files(t, dir) {
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	run := func() int {
		if _, err := s.Collect(t.Context(), blobstore.CollectOptions{Retention: retention, TokenTTL: 40 * 24 * time.Hour}); err != nil {
			t.Fatal(err)
		}
		return len(files(t, dir)) - 1
	}
	c.advance(45 * 24 * time.Hour)
	if n := run(); n != 4 {
		t.Errorf("%d files are left while a token of version 1 may be good", n)
	}
	c.advance(24 * time.Hour)
	if n := run(); n != 0 {
		t.Errorf("%d files are left for ever", n)
	}
}

// BenchmarkCollect deletes what a day's tokens have left.
func BenchmarkCollect(b *testing.B) {
	dir, c := b.TempDir(), newClock()
	s := openAt(b, dir, c)
	name := blobstore.Until(c.now())
	for i := range b.N {
		id := digest.FromString(fmt.Sprint(i)).Encoded()[:24]
		path := filepath.Join(dir, name, "grants", id[:1], id+".record")
		if i < 16 {
			for _, x := range "0123456789abcdef" {
				if err := os.MkdirAll(filepath.Join(dir, name, "grants", string(x)), 0o700); err != nil {
					b.Fatal(err)
				}
			}
		}
		if err := os.WriteFile(path, script, 0o600); err != nil { // without syncs
			b.Fatal(err)
		}
	}
	c.advance(48 * time.Hour)
	b.ResetTimer()
	if done := collect(b, s); done.Files != int64(b.N) {
		b.Errorf("collected %+v", done)
	}
}
