package blobstore_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestStatsAndCheck(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir)
	putPack(t, s, testPack, "the grant", manifest, script, tool)
	putPack(t, s, "named/a/images/b", "the grant", manifest)
	if err := s.PutRecord(t.Context(), "layers/a", []byte("not a pack")); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), digest.FromBytes(script), bytes.NewReader(script)); err != nil {
		t.Fatal(err)
	}
	stats, err := s.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, files := range map[string]int64{"until/2126-11-29": 2, "records/named": 1, "records/layers": 1, "blobs": 1} {
		if stats[name].Files != files || stats[name].Bytes == 0 {
			t.Errorf("%s: %+v, want %d files", name, stats[name], files)
		}
	}
	var faults []string
	check := func(repair bool) {
		t.Helper()
		faults = nil
		if checked, err := s.Check(t.Context(), repair, func(path string, fault error) { faults = append(faults, path) }); err != nil || checked.Files == 0 {
			t.Fatal(checked, err)
		}
	}
	if check(true); len(faults) != 0 {
		t.Fatalf("a sound store has faults: %q", faults)
	}
	damaged := below(t, dir)
	damaged = slices.DeleteFunc(damaged, func(path string) bool { return path == "records/layers/a.record" })
	for _, path := range damaged {
		path = filepath.Join(dir, path)
		data, err := os.ReadFile(path)
		if err == nil {
			data[len(data)-1] ^= 1
			err = os.WriteFile(path, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, repair := range []bool{false, true} {
		if check(repair); !slices.Equal(slices.Sorted(slices.Values(faults)), slices.Sorted(slices.Values(damaged))) {
			t.Errorf("faults %q, want %q", faults, damaged)
		}
	}
	if check(false); len(faults) != 0 {
		t.Errorf("after the repair: %q", faults)
	}
	putPack(t, s, testPack, "the grant", manifest, script, tool)
	for _, blob := range [][]byte{manifest, script, tool} {
		wantBlob(t, s.In(testPack), blob)
	}
}
