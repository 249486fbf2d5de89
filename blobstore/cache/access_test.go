package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/blobstore/cache"
	"github.com/waveproxy/waveproxy/blobstore/storetest"
)

// stranger names another registry, like a client that knows only a digest.
var stranger = cache.Reader{Registry: "https://evil.example.org", Access: "app", Proven: true}

// TestRegistriesShareNothing: a blob that another registry has sent, or is
// sending, is as unknown as any other, even if the reader has a proof from its
// own registry.
func TestRegistriesShareNothing(t *testing.T) {
	dir := t.TempDir()
	c := openCache(t, dir, 1<<20)
	data := storetest.Bytes(100_000, "private")
	d := descriptor(data)
	garbage := bytes.Repeat([]byte("x"), len(data))
	asked := &source{data: garbage}
	check := func(when string) {
		t.Helper()
		if n := c.Available(stranger.Registry, d.Digest); n != 0 {
			t.Errorf("%s: %d bytes are available to another registry", when, n)
		}
		b, err := c.Open(t.Context(), stranger, d, asked.fetch)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		got, err := io.ReadAll(b)
		b.Close()
		if err == nil || bytes.HasPrefix(data, got[:min(len(got), 10)]) && len(got) > 0 {
			t.Errorf("%s: another registry's reader got %d bytes, %v", when, len(got), err)
		}
	}
	fetch, fetched := hand()
	mine := open(t, c, d, fetch)
	up := fetched()
	check("before the first byte")
	up.Write(data[:50_000])
	wantStart(t, mine, data[:50_000])
	check("in the middle")
	up.Write(data[50_000:])
	up.Close()
	wantRest(t, mine, data[50_000:])
	c.Wait()
	check("stored")
	// The garbage did not reach a reader of the right registry, and its blob is
	// still there.
	wantRest(t, open(t, c, d, noFetch), data)
	c.Wait()
	wantFiles(t, dir, data)
}

// TestUnproven: knowing a digest of the reader's own registry is no permission
// either.
func TestUnproven(t *testing.T) {
	c := openCache(t, t.TempDir(), 1<<20)
	data := storetest.Bytes(100_000, "private")
	d := descriptor(data)
	fetch, fetched := hand()
	mine := open(t, c, d, fetch)
	// What has come is not verified, and the other repository may be a stranger's.
	for _, access := range []string{"other identity", "other repository", ""} {
		for _, proven := range []bool{false, true} {
			r := cache.Reader{Registry: reader.Registry, Access: access, Proven: proven}
			if _, err := c.Open(t.Context(), r, d, noFetch); !errors.Is(err, cache.ErrUnavailable) {
				t.Errorf("join the fill of another with the access %q, proven %t: %v", access, proven, err)
			}
		}
	}
	up := fetched()
	up.Write(data)
	up.Close()
	wantRest(t, mine, data)
	c.Wait()
	for _, access := range []string{reader.Access, "other"} {
		r := cache.Reader{Registry: reader.Registry, Access: access}
		if _, err := c.Open(t.Context(), r, d, noFetch); !errors.Is(err, cache.ErrUnproven) {
			t.Errorf("open the stored blob unproven, with the access %q: %v", access, err)
		}
		r.Proven = true
		b, err := c.Open(t.Context(), r, d, noFetch)
		if err != nil {
			t.Fatal(err)
		}
		wantRest(t, b, data)
		b.Close()
	}
}

// TestSameAccessJoins: readers with the same access share one answer.
func TestSameAccessJoins(t *testing.T) {
	c := openCache(t, t.TempDir(), 1<<20)
	d := descriptor([]byte("data"))
	r := reader
	r.Proven = false
	refused := errors.New("403")
	answer := make(chan struct{})
	first := make(chan error)
	go func() {
		_, err := c.Open(t.Context(), r, d, func(context.Context, int64) (io.ReadCloser, error) { <-answer; return nil, refused })
		first <- err
	}()
	for c.Fills() == 0 {
		time.Sleep(time.Millisecond)
	}
	second := make(chan error)
	go func() {
		_, err := c.Open(t.Context(), r, d, noFetch)
		second <- err
	}()
	close(answer)
	if err := <-first; !errors.Is(err, refused) {
		t.Errorf("the first reader: %v", err)
	}
	if err := <-second; err == nil {
		t.Error("the second reader got what the registry refused")
	}
}

// TestStrangeSize: a descriptor with another size deletes nothing.
func TestStrangeSize(t *testing.T) {
	dir := t.TempDir()
	c := openCache(t, dir, 1<<20)
	data := storetest.Bytes(1000, "sized")
	wantStored(t, c, data, (&source{data: data}).fetch)
	for _, size := range []int64{0, 999, 1001, 1 << 20} {
		d := ocispec.Descriptor{Digest: descriptor(data).Digest, Size: size}
		if _, err := c.Open(t.Context(), reader, d, noFetch); !errors.Is(err, cache.ErrUnavailable) {
			t.Errorf("open with %d bytes: %v", size, err)
		}
		wantFiles(t, dir, data)
	}
	wantRest(t, open(t, c, descriptor(data), noFetch), data)
}

// TestIdleFills: downloads without readers end, sooner if little has arrived.
func TestIdleFills(t *testing.T) {
	data := storetest.Bytes(1000, "idle")
	for come, rest := range map[int]time.Duration{0: time.Hour, 100: time.Hour, 600: 50 * time.Millisecond} {
		c := openCache(t, t.TempDir(), 1<<20)
		c.SetWaits(10*time.Millisecond, rest, time.Hour, 0)
		fetch, fetched := hand()
		b := open(t, c, descriptor(data), fetch)
		up := fetched()
		up.Write(data[:come])
		wantStart(t, b, data[:come])
		b.Close()
		c.Wait() // for ever, if the fill does not end
		if c.Fills() != 0 {
			t.Errorf("after %d bytes: the fill goes on", come)
		}
	}
}

// TestIdleFillFindsReader: a reader that comes in time keeps the fill going.
func TestIdleFillFindsReader(t *testing.T) {
	c := openCache(t, t.TempDir(), 1<<20)
	c.SetWaits(50*time.Millisecond, 0, time.Hour, 0)
	data := storetest.Bytes(1000, "late")
	fetch, fetched := hand()
	open(t, c, descriptor(data), fetch).Close()
	b := open(t, c, descriptor(data), noFetch)
	up := fetched()
	time.Sleep(150 * time.Millisecond)
	up.Write(data)
	up.Close()
	wantRest(t, b, data)
}

// TestSlowFill: a fill below the minimal rate ends. Its readers continue with
// fetches of their own from where they are.
func TestSlowFill(t *testing.T) {
	c := openCache(t, t.TempDir(), 1<<20)
	c.SetWaits(time.Hour, time.Hour, 20*time.Millisecond, 100)
	data := storetest.Bytes(10_000, "slow")
	var calls []int64
	fetch, fetched := hand()
	b := open(t, c, descriptor(data), func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		calls = append(calls, offset)
		if offset == 0 {
			return fetch(ctx, offset)
		}
		return io.NopCloser(bytes.NewReader(data[offset:])), nil
	})
	fetched().Write(data[:10])
	wantRest(t, b, data)
	if fmt.Sprint(calls) != "[0 10]" {
		t.Errorf("fetched at %v, want 0 and 10", calls)
	}
}

// TestManyFills: a client, and a registry, has a bounded number of downloads.
func TestManyFills(t *testing.T) {
	c := openCache(t, t.TempDir(), 1<<30)
	fetch := func(ctx context.Context, _ int64) (io.ReadCloser, error) {
		r, w := io.Pipe()
		context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
		return r, nil
	}
	begin := func(r cache.Reader, n int) error {
		b, err := c.Open(t.Context(), r, descriptor(fmt.Append(nil, r, n)), fetch)
		if err == nil {
			b.Close()
		}
		return err
	}
	greedy := 0
	for ; greedy < 1000 && begin(cache.Reader{Registry: "https://evil", Client: "greedy"}, greedy) == nil; greedy++ {
	}
	if greedy > 64 {
		t.Errorf("one client has %d downloads", greedy)
	}
	all := 0
	for ; all < 1000 && begin(cache.Reader{Registry: "https://evil", Client: fmt.Sprint(all)}, all) == nil; all++ {
	}
	if greedy+all > 128 {
		t.Errorf("one registry has %d downloads", greedy+all)
	}
	if err := begin(cache.Reader{Registry: "https://good", Client: "honest"}, 0); err != nil {
		t.Errorf("another client at another registry: %v", err)
	}
}

// TestOldFiles: files of older versions are not used, because their names do not
// have the registry, or half of its hash.
func TestOldFiles(t *testing.T) {
	for _, suffix := range []string{"", "-0123456789abcdef-3"} {
		testOldFile(t, suffix)
	}
}

func testOldFile(t *testing.T, suffix string) {
	t.Helper()
	dir := t.TempDir()
	old := dir + "/sha256-" + descriptor([]byte("old")).Digest.Encoded() + suffix
	if err := os.WriteFile(old, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := openCache(t, dir, 1<<20)
	if _, err := os.Stat(old); err == nil || c.Available(reader.Registry, descriptor([]byte("old")).Digest) != 0 {
		t.Error("a blob of unknown origin is kept")
	}
}
