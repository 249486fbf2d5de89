package blobstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/blobstore/storetest"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/internal/pack"
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
// first large blob and none after Close.
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
	large := strings.Repeat("large", pack.MaxPart/4)
	for _, text := range []string{"first" + large, "second, and longer" + large, "third" + large} {
		if err := s.Put(t.Context(), digest.FromString("wrong"), bytes.NewReader([]byte("something long that is refused"+large))); !errors.Is(err, blobstore.ErrMismatch) {
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
	for _, text := range []string{"third" + large, "first" + large, "second, and longer" + large, "last"} {
		f, err := s.Open(t.Context(), digest.FromString(text))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(f); err != nil || string(got) != text {
			t.Errorf("%.20q, %v, want %.20q", got, err, text)
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
	if _, err := s.Open(t.Context(), digest.FromString("last")); !errors.Is(err, blobstore.ErrNotFound) {
		t.Errorf("a closed stage: %v", err)
	}
}

// TestStageInMemory: a few small blobs need no file. More of them, and those for which the
// request may not have the memory, go into one.
func TestStageInMemory(t *testing.T) {
	dir := t.TempDir()
	put := func(ctx context.Context, s *blobstore.Stage, text string) {
		t.Helper()
		if err := s.Put(ctx, digest.FromString(text), strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		wantBlob(t, s, []byte(text))
	}
	ledger := budget.NewLedger(budget.Limits{budget.Memory: {Request: 300 << 10}})
	ctx, cancel := context.WithCancel(budget.With(t.Context(), ledger.Open("a")))
	s := blobstore.NewStage(dir)
	for i := range 4 {
		put(ctx, s, fmt.Sprint(i, strings.Repeat("x", 60<<10)))
	}
	if n := len(files(t, dir)); n != 0 || ledger.Held(budget.Memory) < 240<<10 {
		t.Errorf("%d files, %d bytes held", n, ledger.Held(budget.Memory))
	}
	put(ctx, s, strings.Repeat("y", 60<<10))
	if n := len(files(t, dir)); n != 1 {
		t.Errorf("%d files with more than may be in memory", n)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	poor := blobstore.NewStage(dir)
	put(budget.With(t.Context(), budget.NewLedger(budget.Limits{budget.Memory: {Request: 10}}).Open("a")), poor, "more than ten bytes")
	if n := len(files(t, dir)); n != 1 {
		t.Errorf("%d files of a request without memory", n)
	}
	if err := poor.Close(); err != nil {
		t.Error(err)
	}
	cancel()
	for ledger.Held(budget.Memory) != 0 {
		runtime.Gosched()
	}
}
