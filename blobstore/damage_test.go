package blobstore_test

import (
	"bytes"
	"errors"

	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/blobstore/storetest"
)

// damages are what disks, and people, do to files.
var damages = map[string]func(data []byte) []byte{
	"truncated":   func(data []byte) []byte { return data[:len(data)/2] },
	"empty":       func([]byte) []byte { return nil },
	"longer":      func(data []byte) []byte { return append(slices.Clone(data), 'x') },
	"flipped bit": func(data []byte) []byte { data = slices.Clone(data); data[len(data)/2] ^= 1; return data },
}

// TestDamage: a damaged blob is no blob, and the next Put makes it a sound one, in
// this process and after a restart. The damaged file is kept.
func TestDamage(t *testing.T) {
	for size, large := range map[int]bool{1000: false, 5 << 20: true} {
		for name, damage := range damages {
			for _, restart := range []bool{false, true} {
				dir := t.TempDir()
				s := openDir(t, dir)
				var log bytes.Buffer
				data := storetest.Bytes(size, name)
				d := digest.FromBytes(data)
				put := func() {
					t.Helper()
					if err := s.Put(t.Context(), d, bytes.NewReader(data)); err != nil {
						t.Errorf("%s, %d bytes: %v", name, size, err)
					}
				}
				put()
				path := files(t, dir)[0]
				if err := os.WriteFile(path, damage(data), 0o600); err != nil {
					t.Fatal(err)
				}
				if restart {
					s = openDir(t, dir)
				}
				s.Log = slog.New(slog.NewTextHandler(&log, nil))
				if err := s.Verify(t.Context(), d); !errors.Is(err, blobstore.ErrDamaged) || !errors.Is(err, blobstore.ErrNotFound) {
					t.Errorf("%s, %d bytes: verified: %v", name, size, err)
				}
				f, err := s.Open(t.Context(), d)
				if err == nil {
					f.Close()
				}
				if !large && !errors.Is(err, blobstore.ErrDamaged) {
					t.Errorf("%s, %d bytes: opened: %v", name, size, err)
				}
				if !strings.Contains(log.String(), d.String()) {
					t.Errorf("%s, %d bytes: the log says nothing: %s", name, size, log.String())
				}
				put()
				wantBlob(t, s, data)
				if aside, err := os.ReadFile(filepath.Join(filepath.Dir(path), ".damaged-"+d.Encoded())); err != nil || !bytes.Equal(aside, damage(data)) {
					t.Errorf("%s, %d bytes: kept aside %d bytes, %v", name, size, len(aside), err)
				}
			}
		}
	}
}

// TestSoundOnce: a sound blob is read once, and again only when its file changes.
func TestSoundOnce(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir)
	data := storetest.Bytes(1000, "once")
	d := digest.FromBytes(data)
	if err := s.Put(t.Context(), d, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, data)
	path := files(t, dir)[0]
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	// The same file with the same time and size is taken to be the same.
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{data[0] ^ 1}, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(t.Context(), d); err != nil {
		t.Errorf("the blob was read again: %v", err)
	}
	if err := os.Chtimes(path, time.Time{}, time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(t.Context(), d); !errors.Is(err, blobstore.ErrDamaged) {
		t.Errorf("a file with another time was not read: %v", err)
	}
}

// TestSweepDamaged: what was kept aside goes after a week.
func TestSweepDamaged(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir)
	path := filepath.Join(dir, "blobs", ".damaged-x")
	for age, kept := range map[time.Duration]bool{6 * 24 * time.Hour: true, 8 * 24 * time.Hour: false} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
		if err := s.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(path); (err == nil) != kept {
			t.Errorf("after %s: %v, want it kept: %t", age, err, kept)
		}
	}
}

// TestStagingSwept: what a crash leaves of a layer that arrives is removed.
func TestStagingSwept(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir)
	path := filepath.Join(s.Staging(), ".tmp-1")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	openDir(t, dir)
	if found := files(t, dir); len(found) != 0 {
		t.Errorf("left: %q", found)
	}
}
