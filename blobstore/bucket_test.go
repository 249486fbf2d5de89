package blobstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/blobstore/storetest"
)

func isRevoked(record string) bool { return strings.Contains(record, "revoked/") }

func openBucket(t *testing.T, f *fakeObjects, change ...func(*blobstore.BucketOptions)) *blobstore.Bucket {
	t.Helper()
	o := blobstore.BucketOptions{Objects: f, Staging: t.TempDir(), Listed: storetest.Listed, Revocation: isRevoked}
	for _, c := range change {
		c(&o)
	}
	b, err := blobstore.OpenBucket(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	f.took()
	return b
}

func TestBucketConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) blobstore.Store { return openBucket(t, newFakeObjects()) })
	storetest.RunRecords(t, func(t *testing.T) storetest.Records {
		return openBucket(t, newFakeObjects(), func(o *blobstore.BucketOptions) { o.Revocation = nil })
	})
	storetest.RunPacks(t, func(t *testing.T) storetest.Server {
		f := newFakeObjects()
		return func(t *testing.T) storetest.Packs { return openBucket(t, f) }
	})
}

// TestBucketLayout: a bucket has the keys of a directory, so a store can be copied.
func TestBucketLayout(t *testing.T) {
	f := newFakeObjects()
	b, dir := openBucket(t, f), t.TempDir()
	d := openDir(t, dir)
	for _, s := range []storetest.Packs{b, d} {
		putPack(t, s, testPack, "the grant", manifest, script, tool)
		putPack(t, s, "named/a/images/sha256-0a", "the grant", manifest)
		if err := s.Put(t.Context(), digest.FromBytes(tool), bytes.NewReader(tool)); err != nil {
			t.Fatal(err)
		}
		if err := s.PutRecord(t.Context(), "layers/0a", []byte("r")); err != nil {
			t.Fatal(err)
		}
	}
	want := append(below(t, dir), "format", "index/named/a/images.names")
	slices.Sort(want)
	if got := f.keys(); !slices.Equal(slices.DeleteFunc(got, func(key string) bool { return key == "format" }), slices.DeleteFunc(slices.Compact(want), func(key string) bool { return key == "format" })) {
		t.Errorf("keys %q, want %q", got, want)
	}
	if string(f.objects["format"]) != "waveproxy store 2\n" {
		t.Errorf("format %q", f.objects["format"])
	}
}

// TestPullCosts: an image that is minted is one object, and one request reads it all. A
// warm pull asks for nothing but revocations, once a second for all tokens.
func TestPullCosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeObjects()
		one, two := openBucket(t, f), openBucket(t, f)
		putPack(t, one, testPack, "the grant", manifest, script)
		if calls := f.took(); len(calls) != 1 {
			t.Errorf("a mint calls %q", calls)
		}
		if _, err := two.Record(t.Context(), testPack); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			wantBlob(t, two.In(testPack), manifest)
			wantBlob(t, two.In(testPack), script)
		}
		if calls := f.took(); len(calls) != 1 {
			t.Errorf("a cold pull calls %q", calls)
		}
		for range 10 {
			for token := range 100 {
				if _, err := two.RecentRecord(t.Context(), fmt.Sprint("until/2126-11-29/revoked/", token)); !errors.Is(err, blobstore.ErrNotFound) {
					t.Fatal(err)
				}
			}
			time.Sleep(500 * time.Millisecond)
		}
		if calls := f.took(); len(calls) > 6 {
			t.Errorf("1000 looks in 5 seconds call %d times", len(calls))
		}
	})
}

// TestRevocations: what one server has revoked another one sees within a second, or at
// once if it must not miss it. What has ended is left out at the next revocation.
func TestRevocations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeObjects()
		today := time.Now()
		at := func(o *blobstore.BucketOptions) { o.Now = func() time.Time { return today } }
		one, two := openBucket(t, f, at), openBucket(t, f, at)
		name := blobstore.Until(today.Add(time.Hour)) + "revoked/0a1b"
		read := func(read func(context.Context, string) ([]byte, error)) string {
			t.Helper()
			value, err := read(t.Context(), name)
			if err != nil && !errors.Is(err, blobstore.ErrNotFound) {
				t.Fatal(err)
			}
			return string(value)
		}
		if got := read(two.RecentRecord); got != "" {
			t.Errorf("not revoked: %q", got)
		}
		if err := one.PutRecord(t.Context(), name, []byte("2026\n")); err != nil {
			t.Fatal(err)
		}
		if got := read(two.Record); got != "2026\n" {
			t.Errorf("revoked: %q", got)
		}
		if err := one.PutRecord(t.Context(), name+"2", []byte("2026\n")); err != nil {
			t.Fatal(err)
		}
		name += "2"
		time.Sleep(time.Second + time.Millisecond)
		if got := read(two.RecentRecord); got != "2026\n" {
			t.Errorf("revoked a second ago: %q", got)
		}
		// Writers at the same time lose nothing, and write together.
		f.took()
		f.takes = time.Millisecond // as long as others wait
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				s := []*blobstore.Bucket{one, two}[i%2]
				if err := s.PutRecord(t.Context(), fmt.Sprint(name, i), nil); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if calls := f.took(); len(calls) > 60 {
			t.Errorf("40 revocations call %d times", len(calls))
		}
		for i := range 40 {
			if _, err := two.Record(t.Context(), fmt.Sprint(name, i)); err != nil {
				t.Error(err)
			}
		}
		today = today.AddDate(0, 0, 3)
		if err := one.PutRecord(t.Context(), blobstore.Until(today)+"revoked/new", nil); err != nil {
			t.Fatal(err)
		}
		if text := string(f.objects["revoked"]); strings.Count(text, "\n") != 1 {
			t.Errorf("revocations that have ended stay:\n%s", text)
		}
	})
}

// TestCollectBucket: days that have ended go, by the earlier of the two clocks.
func TestCollectBucket(t *testing.T) {
	f := newFakeObjects()
	now := time.Now()
	b := openBucket(t, f, func(o *blobstore.BucketOptions) { o.Now = func() time.Time { return now } })
	for days := -3; days <= 3; days++ {
		putPack(t, b, blobstore.Until(time.Now().AddDate(0, 0, days))+"grants/0a1b", "r", manifest, tool)
	}
	putPack(t, b, "named/a/images/sha256-0a", "r", tool)
	f.took()
	count := func() (n int) {
		for _, key := range f.keys() {
			if strings.HasPrefix(key, "until/") {
				n++
			}
		}
		return n
	}
	now = now.AddDate(1, 0, 0) // this clock is wrong
	done, err := b.Collect(t.Context())
	if err != nil || done.Days < 2 || done.Days > 3 || done.Files != int64(2*done.Days) || count() != 14-2*done.Days {
		t.Errorf("%+v, %v; %d objects are left", done, err, count())
	}
	for i := range f.times {
		f.times[i] = now // from here on, puts have the right time
	}
	wantBlob(t, b.In("named/a/images/sha256-0a"), tool)
	if again, err := b.Collect(t.Context()); err != nil || again.Files != 0 {
		t.Errorf("again: %+v, %v", again, err)
	}
}

func TestBucketURL(t *testing.T) {
	f := newFakeObjects()
	large := storetest.Bytes(300_000, "large")
	for _, redirect := range []bool{false, true} {
		b := openBucket(t, f, func(o *blobstore.BucketOptions) { o.Redirect = redirect })
		putPack(t, b, testPack, "the grant", script, tool, large)
		for _, blob := range [][]byte{script, tool, large} {
			url, err := b.In(testPack).(blobstore.Located).URL(t.Context(), ocispec.Descriptor{Digest: digest.FromBytes(blob), Size: int64(len(blob))})
			want := redirect && len(blob) == len(large)
			if err != nil || want != strings.HasPrefix(url, "https://bucket.example.org/until/2126-11-29/blobs/sha256/") {
				t.Errorf("redirect %t, %d bytes: %q, %v", redirect, len(blob), url, err)
			}
		}
		if _, err := b.In(testPack).(blobstore.Located).URL(t.Context(), ocispec.Descriptor{Digest: digest.FromString("absent"), Size: 1 << 20}); redirect && !errors.Is(err, blobstore.ErrNotFound) {
			t.Errorf("an absent blob: %v", err)
		}
	}
}
