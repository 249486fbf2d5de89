package cache_test

import (
	"errors"
	"log/slog"
	"os"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/blobstore/cache"
	"github.com/waveproxy/waveproxy/blobstore/storetest"
)

func TestDamagedFile(t *testing.T) {
	data := storetest.Bytes(1000, "damaged")
	for name, damage := range map[string]func(path string) error{
		"truncated": func(path string) error { return os.Truncate(path, 999) },
		"longer":    func(path string) error { return os.Truncate(path, 1001) },
		"removed":   os.Remove,
	} {
		for _, restart := range []bool{false, true} {
			dir := t.TempDir()
			c := openCache(t, dir, 1001)
			wantStored(t, c, data, (&source{data: data}).fetch)
			if err := damage(file(dir, data)); err != nil {
				t.Fatal(err)
			}
			if restart {
				c.Close()
				c = openCache(t, dir, 1001)
			}
			src := &source{data: data}
			wantStored(t, c, data, src.fetch)
			if n := src.calls.Load(); n != 1 {
				t.Errorf("%s, restart %t: %d fetches, want 1", name, restart, n)
			}
			if err := c.Check(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestBadDescriptor(t *testing.T) {
	c := openCache(t, t.TempDir(), 1<<20)
	data := []byte("data")
	good := descriptor(data)
	for _, d := range []ocispec.Descriptor{
		{Digest: good.Digest, Size: -1},
		{Digest: "sha256:../../etc/passwd", Size: 4},
		{Digest: "md5:8d777f385d3dfec8815d20f7496026dc", Size: 4},
		{},
	} {
		if _, err := c.Open(t.Context(), reader, d, noFetch); err == nil {
			t.Errorf("descriptor %v: no error", d)
		}
	}
	fetch, fetched := hand()
	b := open(t, c, good, fetch)
	other := good
	other.Size++
	if _, err := c.Open(t.Context(), reader, other, noFetch); !errors.Is(err, cache.ErrUnavailable) {
		t.Errorf("open with another size: %v", err)
	}
	upstream := fetched()
	upstream.Write(data)
	upstream.Close()
	wantRest(t, b, data)
}

func TestNotADirectory(t *testing.T) {
	path := t.TempDir() + "/file"
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := cache.Open(path, 1, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("no error")
	}
}
