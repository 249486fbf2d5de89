package blobstore_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/blobstore/storetest"
)

func TestBucketFormat(t *testing.T) {
	open := func(f *fakeObjects) error {
		_, err := blobstore.OpenBucket(t.Context(), blobstore.BucketOptions{Objects: f, Staging: t.TempDir()})
		return err
	}
	f := newFakeObjects()
	f.objects["format"] = []byte("waveproxy store 3\n")
	if err := open(f); err == nil || !strings.Contains(err.Error(), "newer server") {
		t.Errorf("a newer store: %v", err)
	}
	for name, change := range map[string]func(*fakeObjects){
		"no conditions": func(f *fakeObjects) { f.unconditional = true },
		"not even that": func(f *fakeObjects) { f.fail = func(string) error { return errors.New("access denied") } },
		"cannot be read only": func(f *fakeObjects) {
			f.fail = func(c string) error { return map[bool]error{true: errors.New("no")}[strings.HasPrefix(c, "put")] }
		},
	} {
		f := newFakeObjects()
		change(f)
		if err := open(f); err == nil || f.unconditional && !strings.Contains(err.Error(), "ignores the conditions of writes") {
			t.Errorf("%s: %v", name, err)
		}
		if keys := f.keys(); len(keys) != 0 {
			t.Errorf("%s: %q is left", name, keys)
		}
	}
}

// TestDamagedRevocations: a server that cannot tell what is revoked serves no token.
func TestDamagedRevocations(t *testing.T) {
	for _, text := range []string{"until/2126-11-29/revoked/a\n", "x y z\n", "\x00"} {
		f := newFakeObjects()
		b := openBucket(t, f)
		f.store("revoked", []byte(text))
		if _, err := b.RecentRecord(t.Context(), "until/2126-11-29/revoked/b"); err == nil || errors.Is(err, blobstore.ErrNotFound) || !strings.Contains(err.Error(), "is damaged") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestBucketDamage: bytes that have changed are never given, and are replaced.
func TestBucketDamage(t *testing.T) {
	for _, size := range []int{10, 300_000, 5 << 20} {
		f := newFakeObjects()
		data := storetest.Bytes(size, "damage")
		d := digest.FromBytes(data)
		if err := openBucket(t, f).Put(t.Context(), d, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		key := slices.DeleteFunc(f.keys(), func(key string) bool { return key == "format" })[0]
		wrong := bytes.Clone(data)
		wrong[size/2] ^= 1
		f.store(key, wrong)
		b := openBucket(t, f)
		if _, err := b.Open(t.Context(), d); size < 4<<20 && !errors.Is(err, blobstore.ErrDamaged) {
			t.Errorf("%d bytes: open: %v", size, err)
		}
		if err := b.Verify(t.Context(), d); !errors.Is(err, blobstore.ErrDamaged) {
			t.Errorf("%d bytes: verify: %v", size, err)
		}
		if err := b.Put(t.Context(), d, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		wantBlob(t, b, data)
		f.took()
		for range 2 {
			if err := b.Verify(t.Context(), d); err != nil {
				t.Error(err)
			}
		}
		if calls := f.took(); len(calls) > 2 {
			t.Errorf("%d bytes: what is verified is read again: %q", size, calls)
		}
	}
	f := newFakeObjects()
	b := openBucket(t, f)
	putPack(t, b, testPack, "the grant", manifest, script)
	key := "until/2126-11-29/grants/0/0a1b.record"
	wrong := bytes.Clone(f.objects[key])
	wrong[len(wrong)-1] ^= 1
	f.store(key, wrong)
	if err := b.In(testPack).Verify(t.Context(), digest.FromBytes(script)); !errors.Is(err, blobstore.ErrDamaged) {
		t.Errorf("a part: %v", err)
	}
	if _, err := b.Record(t.Context(), testPack); err != nil {
		t.Errorf("the record beside it: %v", err)
	}
	putPack(t, b, testPack, "the grant", manifest, script)
	wantBlob(t, openBucket(t, f).In(testPack), script)
}

// TestBrokenBodies: a blob whose body breaks off is read on where it broke. One of which
// nothing more comes is an error.
func TestBrokenBodies(t *testing.T) {
	for _, size := range []int{1000, 200_000, 3 << 20} {
		f := newFakeObjects()
		data := storetest.Bytes(size, "broken")
		b := openBucket(t, f)
		if err := b.Put(t.Context(), digest.FromBytes(data), bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		f.body = func(_ string, r io.Reader) io.Reader { return io.LimitReader(r, int64(size/7+1)) }
		wantBlob(t, b, data)
		f.body = func(string, io.Reader) io.Reader { return strings.NewReader("") }
		blob, err := b.Open(t.Context(), digest.FromBytes(data))
		if err == nil {
			_, err = io.ReadAll(blob)
		}
		if err == nil || errors.Is(err, blobstore.ErrNotFound) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// TestSilentStorage: each wait has an end.
func TestSilentStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeObjects()
		b := openBucket(t, f)
		putPack(t, b, testPack, "the grant", manifest)
		large := storetest.Bytes(1<<20, "silent")
		if err := b.Put(t.Context(), digest.FromBytes(large), bytes.NewReader(large)); err != nil {
			t.Fatal(err)
		}
		f.body = func(string, io.Reader) io.Reader { return silent{} }
		for name, call := range map[string]func() error{
			"record": func() error { _, err := b.Record(t.Context(), testPack); return err },
			"blob": func() error {
				blob, err := b.Open(t.Context(), digest.FromBytes(large))
				if err == nil {
					_, err = io.ReadAll(blob)
				}
				return err
			},
		} {
			began := time.Now()
			if err := call(); err == nil || !strings.Contains(err.Error(), "sent nothing for 30s") || time.Since(began) > 5*time.Minute {
				t.Errorf("%s: %v after %s", name, err, time.Since(began))
			}
		}
	})
}

// TestListIsFirst: a record is listed before it is stored, so that a server that is
// killed in between leaves nothing that is stored and cannot be found.
func TestListIsFirst(t *testing.T) {
	f := newFakeObjects()
	b := openBucket(t, f)
	f.fail = func(call string) error {
		if strings.HasPrefix(call, "put records/") {
			return errors.New("killed")
		}
		return nil
	}
	name := "named/a/images/sha256-0a"
	if err := b.PutPack(t.Context(), name, []byte("r"), nil); err == nil {
		t.Fatal("no error")
	}
	if names, _, err := b.Records(t.Context(), "named/a/images", time.Time{}); !slices.Equal(names, []string{"sha256-0a"}) || err != nil {
		t.Errorf("%q, %v", names, err)
	}
	f.fail = func(call string) error {
		if strings.HasPrefix(call, "put index/") {
			return errors.New("killed")
		}
		return nil
	}
	if err := b.PutPack(t.Context(), name+"b", []byte("r"), nil); err == nil {
		t.Error("a record that cannot be listed is stored")
	}
	if _, err := b.Record(t.Context(), name+"b"); !errors.Is(err, blobstore.ErrNotFound) {
		t.Errorf("the record is there: %v", err)
	}
}

// TestProbeBucket leaves nothing behind.
func TestProbeBucket(t *testing.T) {
	f := newFakeObjects()
	b := openBucket(t, f)
	if err := b.Probe(); err != nil || len(f.keys()) != 1 {
		t.Errorf("%v; %q", err, f.keys())
	}
	for _, call := range []string{"put", "get", "delete"} {
		f.fail = func(c string) error {
			if strings.HasPrefix(c, call) {
				return errors.New("access denied")
			}
			return nil
		}
		if err := b.Probe(); err == nil || !strings.Contains(err.Error(), "access denied") {
			t.Errorf("%s: %v", call, err)
		}
	}
}
