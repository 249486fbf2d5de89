package blobstore_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/blobstore/storetest"
)

func TestRecords(t *testing.T) {
	for kind, open := range map[string]func(t *testing.T) storetest.Records{
		"Dir": func(t *testing.T) storetest.Records { return openDir(t, t.TempDir()) },
		"Mem": func(*testing.T) storetest.Records { return blobstore.NewMem() },
	} {
		t.Run(kind, func(t *testing.T) { storetest.RunRecords(t, open) })
	}
}

// Reading is bounded even if another program has written the file.
func TestRecordFileTooLarge(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir)
	path := filepath.Join(dir, "records", "a.record")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 1<<40); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Record(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "larger than 8388608 bytes") {
		t.Errorf("error %v, want one with the limit", err)
	}
}

// TestListRecords: a directory of records is listed with the time at which it was
// modified, and not again while it has that time.
func TestListRecords(t *testing.T) {
	s := openDir(t, t.TempDir())
	names, modified, err := s.Records(t.Context(), "a/b", time.Time{})
	if len(names) != 0 || !modified.IsZero() || err != nil {
		t.Errorf("no directory: %q, %s, %v", names, modified, err)
	}
	for _, name := range []string{"a/b/one", "a/b/two", "a/b/two/below", "a/other"} {
		if err := s.PutRecord(t.Context(), name, nil); err != nil {
			t.Fatal(err)
		}
	}
	names, modified, err = s.Records(t.Context(), "a/b", time.Time{})
	slices.Sort(names)
	if !slices.Equal(names, []string{"one", "two"}) || modified.IsZero() || err != nil {
		t.Errorf("%q, %s, %v", names, modified, err)
	}
	if names, again, err := s.Records(t.Context(), "a/b", modified); len(names) != 0 || !again.Equal(modified) || err != nil {
		t.Errorf("unchanged: %q, %s, %v", names, again, err)
	}
	time.Sleep(20 * time.Millisecond) // the kernel's step
	if err := s.PutRecord(t.Context(), "a/b/three", nil); err != nil {
		t.Fatal(err)
	}
	if names, again, err := s.Records(t.Context(), "a/b", modified); len(names) != 3 || !again.After(modified) || err != nil {
		t.Errorf("changed: %q, %s, %v", names, again, err)
	}
	if _, _, err := s.Records(t.Context(), "../x", time.Time{}); err == nil {
		t.Error("a path outside is listed")
	}
}
