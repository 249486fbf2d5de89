package cache_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/blobstore/cache"
	"github.com/waveproxy/waveproxy/blobstore/storetest"
)

func client(name, registry string) cache.Reader {
	return cache.Reader{Registry: "https://" + registry, Access: name, Proven: true, Client: name}
}

// handThen returns a fetch function whose first body the test writes, and whose later
// ones are the blob.
func handThen(data []byte) (fetch cache.Fetch, fetched func() *io.PipeWriter, later *source) {
	first, fetched := hand()
	later = &source{data: data}
	begun := false
	return func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		if !begun {
			begun = true
			return first(ctx, offset)
		}
		return later.fetch(ctx, offset)
	}, fetched, later
}

// TestTrickle: a fill that takes the whole cache and never ends evicts half of the
// stored blobs at most, and ends when another client's fill needs room. Its own reader
// goes on.
func TestTrickle(t *testing.T) {
	for _, tt := range []struct{ name, client, registry string }{
		{"another client", "honest", "registry.example.org"},
		{"another registry", "attacker", "honest.example.org"},
		{"the same ones", "attacker", "registry.example.org"},
	} {
		dir := t.TempDir()
		c := openCache(t, dir, 10_000)
		fillAll(t, c, kilobytes(10)...)
		large := storetest.Bytes(9_900, "large")
		fetch, fetched, later := handThen(large)
		slow, err := c.Open(t.Context(), client("attacker", "registry.example.org"), descriptor(large), fetch)
		if err != nil {
			t.Fatal(err)
		}
		up := fetched()
		up.Write(large[:9_800])
		wantStart(t, slow, large[:9_800])
		if files, err := filepath.Glob(filepath.Join(dir, "sha256-*")); err != nil || len(files) < 5 {
			t.Errorf("%s: %d of 10 blobs are left, %v", tt.name, len(files), err)
		}
		for i := range 4 {
			data, r := storetest.Bytes(1000, fmt.Sprint("honest", i)), client(tt.client, tt.registry)
			b, err := c.Open(t.Context(), r, descriptor(data), (&source{data: data}).fetch)
			if err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			wantRest(t, b, data)
			if b.Alone() {
				t.Fatalf("%s: the newcomer had no room", tt.name)
			}
			b.Close()
			c.WaitFills(0)
			if b, err = c.Open(t.Context(), r, descriptor(data), noFetch); err != nil {
				t.Errorf("%s: the blob is not stored: %v", tt.name, err)
			} else {
				b.Close()
			}
		}
		wantRest(t, slow, large[9_800:])
		if later.calls.Load() != 1 {
			t.Errorf("%s: the reader of the ended fill made %d requests", tt.name, later.calls.Load())
		}
		slow.Close()
		if err := c.Check(); err != nil {
			t.Error(err)
		}
	}
}

// TestLargeBlob: a blob larger than half of the cache is stored while no other one is
// being fetched.
func TestLargeBlob(t *testing.T) {
	dir := t.TempDir()
	c := openCache(t, dir, 10_000)
	fillAll(t, c, kilobytes(10)...)
	large := storetest.Bytes(9_900, "large")
	fillAll(t, c, large)
	wantFiles(t, dir, large)
}

// TestManyLarge: clients that hold no more than their shares keep what they have. The
// one that asks for more is told before it has asked its registry.
func TestManyLarge(t *testing.T) {
	c := openCache(t, t.TempDir(), 10_000)
	fillAll(t, c, kilobytes(5)...)
	for i := range 2 {
		data := storetest.Bytes(2_500, fmt.Sprint("large", i))
		fetch, fetched := hand()
		name := fmt.Sprint("client", i)
		b, err := c.Open(t.Context(), client(name, name), descriptor(data), fetch)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		up := fetched()
		up.Write(data[:2_400])
		wantStart(t, b, data[:2_400])
	}
	data := storetest.Bytes(3_000, "another")
	if _, err := c.Open(t.Context(), client("another", "another"), descriptor(data), noFetch); !errors.Is(err, cache.ErrUnavailable) {
		t.Errorf("without room: %v", err)
	}
	// A size that is not the blob's is no reason to ask for proof either.
	d := descriptor(kilobytes(1)[0])
	d.Size++
	r := reader
	r.Proven = false
	if _, err := c.Open(t.Context(), r, d, noFetch); !errors.Is(err, cache.ErrUnavailable) {
		t.Errorf("with another size: %v", err)
	}
}

// TestUnnamed: files that were evicted, or whose fill failed, take at most half of the
// cache while slow readers have them open. Readers of further ones go on by themselves
// and get the right bytes.
func TestUnnamed(t *testing.T) {
	dir := t.TempDir()
	c := openCache(t, dir, 20_000)
	var readers []*cache.Blob
	var blobs [][]byte
	sources := 0
	for i := range 60 {
		data := storetest.Bytes(2_000, fmt.Sprint("held", i))
		src := &source{data: data}
		if i%3 == 0 { // ends too early
			src = &source{data: data[:1_500]}
		}
		b := open(t, c, descriptor(data), func(ctx context.Context, offset int64) (io.ReadCloser, error) {
			if offset > 0 {
				sources++
				return (&source{data: data}).fetch(ctx, offset)
			}
			return src.fetch(ctx, offset)
		})
		wantStart(t, b, data[:100])
		c.WaitFills(0)
		if i%3 != 0 {
			readers, blobs = append(readers, b), append(blobs, data)
		}
		if held := unnamedBytes(t, dir); held > 10_000 {
			t.Fatalf("after %d blobs, files without names take %d bytes", i, held)
		}
	}
	for i, b := range readers {
		if i == 0 {
			if _, err := b.Seek(50, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			wantRest(t, b, blobs[i][50:])
			continue
		}
		wantRest(t, b, blobs[i][100:])
	}
	if sources == 0 {
		t.Error("no reader went on by itself")
	}
	for _, b := range readers {
		b.Close()
	}
	if err := c.Check(); err != nil {
		t.Error(err)
	}
}

// unnamedBytes returns the sizes of the open files of this process that the directory
// has no more, each file once.
func unnamedBytes(t *testing.T, dir string) (n int64) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, fd := range fds {
		path := "/proc/self/fd/" + fd.Name()
		name, err := os.Readlink(path)
		if err != nil || !strings.HasPrefix(name, dir) || !strings.HasSuffix(name, " (deleted)") || seen[name] {
			continue
		}
		seen[name] = true
		if info, err := os.Stat(path); err == nil {
			n += info.Size()
		}
	}
	return n
}
