package registry

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// TestUsedImagesStay: an image that is served from memory is used, as far as the storage
// can see: its record and the large layers that it shares with others.
func TestUsedImagesStay(t *testing.T) {
	net := newNetwork(t)
	net.PushIndex(t, "library/app", "1", "one", "amd64")
	s := net.start()
	root := s.get(toolsApp + "1").digest()
	old := time.Now().Add(-60 * 24 * time.Hour)
	age := func() (n int) {
		t.Helper()
		err := filepath.WalkDir(filepath.Join(net.dir, "records", "named"), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || filepath.Base(filepath.Dir(path)) != "images" {
				return err
			}
			info, err := e.Info()
			if err == nil && time.Since(info.ModTime()) < time.Hour {
				n++
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	records, err := filepath.Glob(filepath.Join(recordsOf(t, net), "*", "images", "*"))
	if err != nil || len(records) != 1 {
		t.Fatal(records, err)
	}
	if err := os.Chtimes(records[0], old, old); err != nil {
		t.Fatal(err)
	}
	s.get(toolsApp + root.String())
	if age() != 0 {
		t.Error("the record was used again within hours")
	}
	q, err := s.server.named.paths.parse(route{token: "tools", name: "library/app"}, "")
	if err != nil {
		t.Fatal(err)
	}
	img, err := s.server.named.ledger.imageOf(t.Context(), q, root)
	if err != nil {
		t.Fatal(err)
	}
	img.used.Add(-int64(useEvery / time.Second))
	s.get(toolsApp + root.String())
	if age() != 1 {
		t.Error("the record of an image that was pulled is as old as before")
	}
}

func (*manyImages) Use(context.Context, string, []digest.Digest) error { return nil }

func (c *countedReads) Use(ctx context.Context, record string, blobs []digest.Digest) error {
	return c.dir.Use(ctx, record, blobs)
}
