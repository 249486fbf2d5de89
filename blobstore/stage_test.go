package blobstore_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/blobstore/storetest"
)

func TestStage(t *testing.T) {
	storetest.Run(t, func(t *testing.T) blobstore.Store {
		s := blobstore.NewStage(t.TempDir())
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	})
}

// TestStageFiles: a stage has one file with a name that Sweep knows, none before its
// first blob and none after Close.
func TestStageFiles(t *testing.T) {
	dir := t.TempDir()
	s := blobstore.NewStage(dir)
	files := func(want int) {
		t.Helper()
		if names, err := filepath.Glob(filepath.Join(dir, ".tmp-*")); err != nil || len(names) != want {
			t.Errorf("files %q, %v, want %d", names, err, want)
		}
		if all, err := os.ReadDir(dir); err != nil || len(all) != want {
			t.Errorf("files %v, %v, want %d", all, err, want)
		}
	}
	files(0)
	for _, text := range []string{"first", "second, and longer", "third"} {
		if err := s.Put(t.Context(), digest.FromString("wrong"), bytes.NewReader([]byte("something long that is refused"))); !errors.Is(err, blobstore.ErrMismatch) {
			t.Errorf("wrong bytes: %v", err)
		}
		if err := s.Put(t.Context(), digest.FromString(text), bytes.NewReader([]byte(text))); err != nil {
			t.Fatal(err)
		}
	}
	files(1)
	spooled, err := s.Spool(t.Context(), bytes.NewReader([]byte("spooled")))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), digest.FromString("last"), bytes.NewReader([]byte("last"))); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(spooled); err != nil || string(got) != "spooled" {
		t.Errorf("spooled %q, %v", got, err)
	}
	files(1)
	for _, text := range []string{"third", "first", "second, and longer"} {
		f, err := s.Open(t.Context(), digest.FromString(text))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(f); err != nil || string(got) != text {
			t.Errorf("%q, %v, want %q", got, err, text)
		}
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	files(0)
	if err := s.Put(t.Context(), digest.FromString("a"), bytes.NewReader([]byte("a"))); err == nil {
		t.Error("a closed stage takes blobs")
	}
	if _, err := s.Open(t.Context(), digest.FromString("first")); !errors.Is(err, blobstore.ErrNotFound) {
		t.Errorf("a closed stage: %v", err)
	}
}
