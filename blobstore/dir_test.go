package blobstore_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/blobstore/storetest"
)

func TestDirConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) blobstore.Store {
		dir := t.TempDir()
		t.Cleanup(func() {
			if got := tempFiles(t, dir); len(got) != 0 {
				t.Errorf("temporary files %q, want none", got)
			}
		})
		return openDir(t, dir)
	})
}

func TestDirPacks(t *testing.T) {
	storetest.RunPacks(t, func(t *testing.T) storetest.Server {
		dir := t.TempDir()
		return func(t *testing.T) storetest.Packs { return openDir(t, dir) }
	})
}

func TestMemConformance(t *testing.T) {
	storetest.Run(t, func(*testing.T) blobstore.Store { return blobstore.NewMem() })
}

func TestDirLayout(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "store")
	s := openDir(t, dir)
	data := []byte("hello")
	for _, d := range []digest.Digest{digest.FromBytes(data), digest.SHA512.FromBytes(data)} {
		if err := s.Put(t.Context(), d, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.PutRecord(t.Context(), "grants/0a", data); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"blobs/sha256/2c/2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
		"blobs/sha512/9b/9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca72323c3d99ba5c11d7c7acc6e14b8c5da0c4663475c2e5c3adef46f73bcdec043",
		"records/grants/0a.record",
	} {
		if fileSize(t, filepath.Join(dir, name)) != 5 {
			t.Errorf("%s: wrong size", name)
		}
	}
	err := filepath.WalkDir(filepath.Dir(dir), func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if e.IsDir() {
			want = fs.ModeDir | 0o700
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode(), want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A store has the blobs of every earlier store on the same directory.
func TestDirReopen(t *testing.T) {
	dir := t.TempDir()
	data := storetest.Bytes(1000, "reopen")
	if err := openDir(t, dir).Put(t.Context(), digest.FromBytes(data), bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	s := openDir(t, dir)
	wantBlob(t, s, data)
	unread := iotest.ErrReader(errors.New("read, although the blob is there"))
	if err := s.Put(t.Context(), digest.FromBytes(data), unread); err != nil {
		t.Error(err)
	}
}

func TestDirRelative(t *testing.T) {
	t.Chdir(t.TempDir())
	s := openDir(t, "store")
	t.Chdir("/")
	data := []byte("the working directory does not matter afterwards")
	if err := s.Put(t.Context(), digest.FromBytes(data), bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, data)
}

func TestNewDirFails(t *testing.T) {
	dir := t.TempDir()
	file, dangling := filepath.Join(dir, "file"), filepath.Join(dir, "dangling")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", dangling); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Join(file, "below"), dangling, filepath.Join(dangling, "below")} {
		if _, err := blobstore.NewDir(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v, want one that names the path", path, err)
		}
	}
}

// Sweep removes only our own temporary files, in our own part of the directory.
func TestSweepKeepsOthers(t *testing.T) {
	dir := t.TempDir()
	openDir(t, dir)
	write := func(name string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	stale := []string{write("blobs/.tmp-1"), write("records/.tmp-2")}
	kept := []string{write("key"), write(".tmp-3"), write("blobs/README"), write("records/a.record")}
	openDir(t, dir)
	for _, path := range stale {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, want that it is gone", path, err)
		}
	}
	for _, path := range kept {
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	}
}

// openDir opens a store and sweeps it, as a server does at its start.
func openDir(t *testing.T, path string) *blobstore.Dir {
	t.Helper()
	s, err := blobstore.NewDir(path)
	if err == nil {
		err = s.Sweep(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func wantBlob(t *testing.T, s blobstore.Store, want []byte) {
	t.Helper()
	f, err := s.Open(t.Context(), digest.FromBytes(want))
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, error %v; want the %d that were put", len(got), err, len(want))
	}
}

// files returns the paths of all files below dir.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && path != filepath.Join(dir, "format") {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func tempFiles(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	for _, path := range files(t, dir) {
		if strings.HasPrefix(filepath.Base(path), ".") {
			found = append(found, path)
		}
	}
	return found
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
