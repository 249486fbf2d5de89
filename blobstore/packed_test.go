package blobstore_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/blobstore/storetest"
	"github.com/waveproxy/waveproxy/internal/pack"
)

const testPack = "until/2126-11-29/grants/0a1b"

// The parts of an ordinary image, and one that is too large for a pack.
var (
	manifest = storetest.Bytes(800, "manifest")
	script   = storetest.Bytes(3000, "script")
	tool     = storetest.Bytes(pack.MaxPart+1, "tool")
)

func partsOf(blobs ...[]byte) (parts []pack.Part) {
	for _, b := range blobs {
		parts = append(parts, pack.Of(digest.FromBytes(b), b))
	}
	return parts
}

func putPack(t *testing.T, s blobstore.Packs, name, record string, blobs ...[]byte) {
	t.Helper()
	if err := s.PutPack(t.Context(), name, []byte(record), partsOf(blobs...)); err != nil {
		t.Fatal(err)
	}
}

// below returns the paths of all files, without the directory.
func below(t *testing.T, dir string) (found []string) {
	t.Helper()
	for _, path := range files(t, dir) {
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, rel)
	}
	return found
}

func toolPath(dir string) string {
	hex := digest.FromBytes(tool).Encoded()
	return filepath.Join(dir, "sha256", hex[:2], hex)
}

func TestPutPack(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir)
	putPack(t, s, testPack, "the grant", manifest, script)
	if got := below(t, dir); !slices.Equal(got, []string{"until/2126-11-29/grants/0/0a1b.record"}) {
		t.Errorf("files %q, want one", got)
	}
	putPack(t, s, testPack, "the grant", manifest, script, tool)
	if got, want := below(t, dir), []string{toolPath("until/2126-11-29/blobs"), "until/2126-11-29/grants/0/0a1b.record"}; !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
	other := openDir(t, dir) // another server
	for _, blob := range [][]byte{manifest, script, tool} {
		wantBlob(t, other.In(testPack), blob)
		if err := other.In(testPack).Verify(t.Context(), digest.FromBytes(blob)); err != nil {
			t.Error(err)
		}
		if _, err := other.Open(t.Context(), digest.FromBytes(blob)); !errors.Is(err, blobstore.ErrNotFound) {
			t.Errorf("a part is a blob of all records: %v", err)
		}
	}
	if _, err := other.In("until/2126-11-29/grants/0a1c").Open(t.Context(), digest.FromBytes(script)); !errors.Is(err, blobstore.ErrNotFound) {
		t.Errorf("a part of another record: %v", err)
	}
	if record, err := other.Record(t.Context(), testPack); err != nil || string(record) != "the grant" {
		t.Errorf("record %q, %v", record, err)
	}
	shared := storetest.Bytes(100, "shared")
	if err := s.Put(t.Context(), digest.FromBytes(shared), bytes.NewReader(shared)); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, other.In(testPack), shared)
}

// What is stored already is not written again, what is damaged is.
func TestPutPackTwice(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir)
	path := filepath.Join(dir, "until/2126-11-29/grants/0/0a1b.record")
	stat := func() fs.FileInfo {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	putPack(t, s, testPack, "the grant", manifest, script, tool)
	first := stat()
	putPack(t, s, testPack, "the grant", manifest, script, tool)
	if !os.SameFile(first, stat()) {
		t.Error("the same record was written again")
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, damaged := range [][]byte{good[:len(good)-1], append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1), {}, []byte("wvp1")} {
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openDir(t, dir).In(testPack).Open(t.Context(), digest.FromBytes(script)); !errors.Is(err, blobstore.ErrNotFound) {
			t.Errorf("%d of %d bytes: error %v, want ErrNotFound", len(damaged), len(good), err)
		}
		putPack(t, s, testPack, "the grant", manifest, script, tool)
		wantBlob(t, openDir(t, dir).In(testPack), script)
	}
	large := filepath.Join(dir, toolPath("until/2126-11-29/blobs"))
	if err := os.WriteFile(large, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = openDir(t, dir)
	if _, err := s.In(testPack).Open(t.Context(), digest.FromBytes(tool)); !errors.Is(err, blobstore.ErrDamaged) {
		t.Errorf("error %v, want ErrDamaged", err)
	}
	putPack(t, s, testPack, "the grant", manifest, script, tool)
	wantBlob(t, s.In(testPack), tool)
}

// A large blob that is stored gets a second name, and outlives the first one.
func TestLargePartIsLinked(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir)
	if err := s.Put(t.Context(), digest.FromBytes(tool), bytes.NewReader(tool)); err != nil {
		t.Fatal(err)
	}
	unread := pack.Part{Digest: digest.FromBytes(tool), Size: int64(len(tool)), Open: func(context.Context) (io.ReadCloser, error) {
		return nil, errors.New("the part was read")
	}}
	if err := s.PutPack(t.Context(), testPack, nil, []pack.Part{unread}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, toolPath("blobs"))); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, openDir(t, dir).In(testPack), tool)
	// A record without a day has its large blobs where all can have them.
	putPack(t, s, "named/a/images/b", "the grant", tool)
	wantBlob(t, s, tool)
}

func TestPutPackRefuses(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir)
	wrong := pack.Of(digest.FromString("other"), script)
	largeWrong := pack.Of(digest.FromString("other"), tool)
	for name, tt := range map[string]struct {
		record string
		parts  []pack.Part
		want   error
	}{
		"no day":         {"until/grants/0a1b", partsOf(script), nil},
		"no such day":    {"until/2026-13-01/grants", nil, nil},
		"only a day":     {"until/2026-11-29", nil, nil},
		"out of the day": {"until/../grants", nil, nil},
		"bad digest":     {testPack, []pack.Part{pack.Of("sha256:../x", script)}, nil},
		"other bytes":    {testPack, []pack.Part{wrong}, blobstore.ErrMismatch},
		"large":          {testPack, []pack.Part{largeWrong}, blobstore.ErrMismatch},
	} {
		err := s.PutPack(t.Context(), tt.record, []byte("r"), tt.parts)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := below(t, dir); len(got) != 0 {
		t.Errorf("files %q", got)
	}
}

// Concurrent writers of one record, in two servers, leave one whole record.
func TestPutPackAtOnce(t *testing.T) {
	dir := t.TempDir()
	servers := []*blobstore.Dir{openDir(t, dir), openDir(t, dir)}
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			s := servers[i%2]
			putPack(t, s, testPack, strings.Repeat("x", 1+i), manifest, script, tool)
			wantBlob(t, s.In(testPack), script)
			wantBlob(t, s.In(testPack), tool)
		})
	}
	wg.Wait()
	if got := below(t, dir); len(got) != 2 {
		t.Errorf("files %q, want the record and the large blob", got)
	}
}

func TestUntil(t *testing.T) {
	for end, want := range map[string]string{
		"2026-11-27T23:59:59Z":      "until/2026-11-28/",
		"2026-11-28T00:00:00Z":      "until/2026-11-29/",
		"2026-11-28T01:00:00+02:00": "until/2026-11-28/",
		"2026-12-31T12:00:00Z":      "until/2027-01-01/",
	} {
		at, err := time.Parse(time.RFC3339, end)
		if got := blobstore.Until(at); err != nil || got != want {
			t.Errorf("%s: %s, want %s", end, got, want)
		}
	}
}

func TestFormat(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		if openDir(t, dir).Older() {
			t.Error("a new store is older")
		}
	}
	format := filepath.Join(dir, "format")
	if data, err := os.ReadFile(format); err != nil || string(data) != "waveproxy store 2\n" {
		t.Errorf("format %q, %v", data, err)
	}
	for text, want := range map[string]string{
		"waveproxy store 3\n":                    "was written by a newer server: it has version 3, and this server knows versions up to 2",
		"waveproxy store 99999999999999999999\n": "newer server",
		"":                                       "does not begin with the version",
		"waveproxy store 2\nwas older until x\n": "parsing time",
	} {
		if err := os.WriteFile(format, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := blobstore.NewDir(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
	older := t.TempDir()
	if err := os.Mkdir(filepath.Join(older, "blobs"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if !openDir(t, older).Older() {
			t.Error("a store of the first version is not older")
		}
	}
}
