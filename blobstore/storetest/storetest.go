// Package storetest holds the tests that every blobstore.Store passes. It must
// never know an implementation: the promises of a single implementation are
// tested beside it.
//
// Files: storetest.go (Run, and the tests of one caller), concurrent.go (tests of
// concurrent callers), records.go (records), packs.go (records with their blobs, and
// servers that share a store).
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/blobstore"
)

// Run tests the stores that open returns, a new and empty one for each test.
func Run(t *testing.T, open func(t *testing.T) blobstore.Store) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, blobstore.Store)
	}{
		{"PutOpen", testPutOpen},
		{"PutTwice", testPutTwice},
		{"PutTwiceOtherBytes", testPutTwiceOtherBytes},
		{"Mismatch", testMismatch},
		{"ReaderError", testReaderError},
		{"Cancelled", testCancelled},
		{"CancelledWhileReading", testCancelledWhileReading},
		{"Absent", testAbsent},
		{"BadDigest", testBadDigest},
		{"Seek", testSeek},
		{"OpenTwice", testOpenTwice},
		{"ConcurrentSame", testConcurrentSame},
		{"ConcurrentDifferent", testConcurrentDifferent},
		{"ConcurrentMismatch", testConcurrentMismatch},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// Bytes returns n bytes that are reproducible and differ from kilobyte to
// kilobyte and from seed to seed.
func Bytes(n int, seed string) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		b.WriteString(strings.Repeat(digest.FromString(fmt.Sprint(seed, i)).Encoded(), 16))
	}
	return b.Bytes()[:n]
}

func testPutOpen(t *testing.T, s blobstore.Store) {
	for _, size := range []int{0, 1, 512, 32<<10 - 1, 32 << 10, 1<<20 + 7} {
		for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			data := Bytes(size, "put")
			d := algorithm.FromBytes(data)
			r := iotest.HalfReader(bytes.NewReader(data))
			if size <= 512 {
				r = iotest.DataErrReader(iotest.OneByteReader(bytes.NewReader(data)))
			}
			if err := s.Put(t.Context(), d, r); err != nil {
				t.Fatalf("%d bytes, %s: %v", size, algorithm, err)
			}
			holds(t, s, d, data)
		}
	}
}

func testPutTwice(t *testing.T, s blobstore.Store) {
	data := Bytes(100, "twice")
	d := digest.FromBytes(data)
	put(t, s, data)
	put(t, s, data)
	holds(t, s, d, data)
}

func testPutTwiceOtherBytes(t *testing.T, s blobstore.Store) {
	data := Bytes(100, "first")
	d := digest.FromBytes(data)
	put(t, s, data)
	if err := s.Put(t.Context(), d, strings.NewReader("other")); err != nil && !errors.Is(err, blobstore.ErrMismatch) {
		t.Errorf("put other bytes: %v, want nil or ErrMismatch", err)
	}
	holds(t, s, d, data)
}

func testMismatch(t *testing.T, s blobstore.Store) {
	data := Bytes(50_000, "right")
	d := digest.FromBytes(data)
	changed := bytes.Clone(data)
	changed[len(changed)-1]++
	for name, wrong := range map[string][]byte{
		"changed":   changed,
		"truncated": data[:len(data)-1],
		"longer":    append(bytes.Clone(data), 0),
		"empty":     nil,
	} {
		err := s.Put(t.Context(), d, bytes.NewReader(wrong))
		if !errors.Is(err, blobstore.ErrMismatch) {
			t.Errorf("%s: error %v, want ErrMismatch", name, err)
			continue
		}
		found := digest.FromBytes(wrong)
		for _, part := range []digest.Digest{d, found} {
			if !strings.Contains(err.Error(), part.String()) {
				t.Errorf("%s: error %q does not name %s", name, err, part)
			}
		}
		lacks(t, s, d)
		lacks(t, s, found)
	}
	put(t, s, data)
	holds(t, s, d, data)
}

func testReaderError(t *testing.T, s blobstore.Store) {
	data := Bytes(50_000, "reader")
	d := digest.FromBytes(data)
	broken := errors.New("connection lost")
	for _, n := range []int{0, 1, 40_000, len(data)} {
		r := io.MultiReader(bytes.NewReader(data[:n]), iotest.ErrReader(broken))
		if err := s.Put(t.Context(), d, r); !errors.Is(err, broken) {
			t.Errorf("reader fails after %d bytes: error %v, want the reader's", n, err)
		}
		lacks(t, s, d)
	}
	put(t, s, data)
	holds(t, s, d, data)
}

func testCancelled(t *testing.T, s blobstore.Store) {
	kept, fresh := Bytes(10, "kept"), Bytes(10, "fresh")
	put(t, s, kept)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if f, err := s.Open(ctx, digest.FromBytes(kept)); !errors.Is(err, context.Canceled) {
		if err == nil {
			f.Close()
		}
		t.Errorf("open: error %v, want context.Canceled", err)
	}
	if err := s.Put(ctx, digest.FromBytes(fresh), bytes.NewReader(fresh)); !errors.Is(err, context.Canceled) {
		t.Errorf("put: error %v, want context.Canceled", err)
	}
	lacks(t, s, digest.FromBytes(fresh))
}

func testCancelledWhileReading(t *testing.T, s blobstore.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	d := digest.FromString("never complete")
	reads := 0
	err := s.Put(ctx, d, readerFunc(func(p []byte) (int, error) {
		switch reads++; reads {
		case 3:
			cancel()
		case 100: // so that a store that ignores ctx does not fill the disk
			return 0, errors.New("put went on reading")
		}
		clear(p)
		return len(p), nil
	}))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	lacks(t, s, d)
}

func testAbsent(t *testing.T, s blobstore.Store) {
	put(t, s, Bytes(10, "something else"))
	lacks(t, s, digest.FromString("absent"))
	lacks(t, s, digest.SHA512.FromString("absent"))
}

func testBadDigest(t *testing.T, s blobstore.Store) {
	hex := digest.FromString("x").Encoded()
	for _, d := range []digest.Digest{
		"", ":", "sha256", "sha256:", digest.Digest(hex),
		"sha256:x", digest.Digest("sha256:" + hex[:63]), digest.Digest("sha256:" + hex + "0"),
		digest.Digest("sha256:" + strings.ToUpper(hex)),
		"sha256:../../../../etc/passwd",
		digest.Digest("sha256:../" + hex[:61]),
		digest.Digest("sha256:" + hex[:62] + "/."),
		digest.Digest("../sha256:" + hex),
		digest.Digest("sha256:" + hex[:63] + "\n"),
		digest.Digest("sha512:" + hex),
		digest.Digest("md5:" + hex[:32]),
		digest.SHA384.FromString("x"),
	} {
		if f, err := s.Open(t.Context(), d); err == nil {
			f.Close()
			t.Errorf("open %q: no error", d)
		} else if errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open %q: %v, want an error about the digest", d, err)
		}
		err := s.Put(t.Context(), d, readerFunc(func([]byte) (int, error) {
			t.Errorf("put %q: the reader was read", d)
			return 0, io.EOF
		}))
		if err == nil || errors.Is(err, blobstore.ErrMismatch) {
			t.Errorf("put %q: error %v, want one about the digest", d, err)
		}
	}
}

func testSeek(t *testing.T, s blobstore.Store) {
	data := Bytes(100_000, "seek")
	put(t, s, data)
	f := open(t, s, digest.FromBytes(data))
	for _, step := range []struct {
		offset int64
		whence int
		want   int64
		read   int
	}{
		{0, io.SeekEnd, 100_000, 0},
		{0, io.SeekStart, 0, 10},
		{90, io.SeekCurrent, 100, 50_000},
		{-5, io.SeekEnd, 99_995, 5},
		{12_345, io.SeekStart, 12_345, 1},
	} {
		at, err := f.Seek(step.offset, step.whence)
		if err != nil || at != step.want {
			t.Fatalf("seek %d from %d: %d, %v; want %d", step.offset, step.whence, at, err, step.want)
		}
		got := make([]byte, step.read)
		if _, err := io.ReadFull(f, got); err != nil || !bytes.Equal(got, data[at:][:step.read]) {
			t.Fatalf("read %d bytes at %d: wrong bytes, or error %v", step.read, at, err)
		}
	}
	if _, err := f.Seek(0, io.SeekEnd); err != nil {
		t.Fatal(err)
	}
	if n, err := f.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("read at the end: %d, %v; want 0, EOF", n, err)
	}
	if _, err := f.Seek(-1, io.SeekStart); err == nil {
		t.Error("seek to -1: no error")
	}
}

func testOpenTwice(t *testing.T, s blobstore.Store) {
	data := Bytes(1000, "open twice")
	put(t, s, data)
	f, g := open(t, s, digest.FromBytes(data)), open(t, s, digest.FromBytes(data))
	if _, err := f.Seek(500, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	put(t, s, data) // must not disturb readers
	if got, err := io.ReadAll(g); err != nil || !bytes.Equal(got, data) {
		t.Errorf("one reader moves the other, or error %v", err)
	}
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, data[500:]) {
		t.Errorf("wrong bytes after seek, or error %v", err)
	}
}

func put(t *testing.T, s blobstore.Store, data []byte) {
	t.Helper()
	if err := s.Put(t.Context(), digest.FromBytes(data), bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, s blobstore.Store, d digest.Digest) io.ReadSeekCloser {
	t.Helper()
	f, err := s.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return f
}

// holds may be called from any goroutine.
func holds(t *testing.T, s blobstore.Store, d digest.Digest, want []byte) {
	t.Helper()
	f, err := s.Open(t.Context(), d)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes and error %v, want the %d bytes that were put", d, len(got), err, len(want))
	}
}

func lacks(t *testing.T, s blobstore.Store, d digest.Digest) {
	t.Helper()
	f, err := s.Open(t.Context(), d)
	if err == nil {
		f.Close()
	}
	if !errors.Is(err, blobstore.ErrNotFound) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open %s: error %v, want ErrNotFound", d, err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
