package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/recipes"
)

// age makes all files of a store as old as if they had been unused for so long.
func age(t *testing.T, dir string, by time.Duration) {
	t.Helper()
	old := time.Now().Add(-by)
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err == nil {
			err = os.Chtimes(path, old, old)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestCollection: a clock that has jumped is believed after an hour, not at once.
func TestCollection(t *testing.T) {
	dir := t.TempDir()
	store, err := blobstore.NewDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	blob := []byte("an unused blob")
	if err := store.Put(t.Context(), digest.FromBytes(blob), bytes.NewReader(blob)); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	collected := int64(0)
	c := collection{
		store: store, layers: assemble.NewLayers(store, store, nil, dir, 1), book: new(recipes.Book),
		options: blobstore.CollectOptions{Retention: 30 * 24 * time.Hour}, log: slog.New(slog.NewTextHandler(&log, nil)),
		began: time.Now(), collected: func(files, _ int64) { collected += files },
	}
	c.once(t.Context())
	age(t, dir, 40*24*time.Hour) // the last collection, too
	c.once(t.Context())
	if collected != 0 || !strings.Contains(log.String(), "waiting an hour before the clock is believed") {
		t.Errorf("%d files collected after a jump of the clock\n%s", collected, log.String())
	}
	c.began = c.began.Add(-clockTrust)
	c.once(t.Context())
	if collected != 1 {
		t.Errorf("%d files collected after an hour\n%s", collected, log.String())
	}
	if c.began = time.Now(); !c.believed(time.Now()) {
		t.Error("the clock is not believed after a collection")
	}
}

func TestStorageCommands(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("WAVEPROXY_STORAGE_DIR", dir)
	command := func(args ...string) (status int, out string) {
		t.Helper()
		var both bytes.Buffer
		status = run(context.Background(), append([]string{"storage"}, args...), &both, &both)
		return status, both.String()
	}
	if status, out := command("stats"); status != 1 || !strings.Contains(out, "no storage of waveproxy") {
		t.Errorf("without a storage: %d %s", status, out)
	}
	store, err := blobstore.NewDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	blob := []byte("a blob")
	if err := store.Put(t.Context(), digest.FromBytes(blob), io.LimitReader(bytes.NewReader(blob), 100)); err != nil {
		t.Fatal(err)
	}
	age(t, dir, 40*24*time.Hour)
	want := func(text string, wanted int, args ...string) {
		t.Helper()
		if status, out := command(args...); status != wanted || !strings.Contains(out, text) {
			t.Errorf("%v: %d %s, want %q", args, status, out, text)
		}
	}
	want("1      6  all", 0, "stats")
	want("checked 1 files, 6 bytes", 0, "verify")
	want("would delete 1 files, 6 bytes", 0, "collect", "--dry-run")
	files, err := filepath.Glob(filepath.Join(dir, "blobs", "*", "*", "*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	if err := os.WriteFile(files[0], []byte("A blob"), 0o600); err != nil {
		t.Fatal(err)
	}
	want("--repair sets them aside", 1, "verify")
	want("damaged", 0, "verify", "--repair")
	want("checked 0 files", 0, "verify")
	want("deleted 0 files", 0, "collect")
}
