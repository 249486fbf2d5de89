package registry

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
)

// What a server at 8f63d7c, the last version without a version of its store, has written
// on 27 November 2026: two images of requests, one of them revoked, and one of a recipe.
const (
	olderStore   = "testdata/store-8f63d7c.tar.gz"
	olderToken   = auth.Token("c43xoquijydgtondd2f6aq5rncv3rxoelh732jy")
	olderRevoked = auth.Token("c43xoqurrd4zkyl6sslsv6lej4dqw4jo3ohcdni")
	olderGroup   = "named/226344816371ca68b4695ed6b4e6fa17"
	olderRoot    = digest.Digest("sha256:12177cfb0da27470d02f6d598cba9640a4728db056b9f4a630f6d79616ff8ac1")
)

var olderTime = time.Date(2026, 11, 27, 17, 0, 0, 0, time.UTC)

// unpackStore returns the directory of a store in an archive.
func unpackStore(t *testing.T, archive string) string {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o700)
		} else {
			var data []byte
			if data, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(path, data, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestStoreOfAnOlderVersion opens what was promised before stores had a version, and
// collects it when all of it has ended.
func TestStoreOfAnOlderVersion(t *testing.T) {
	dir := unpackStore(t, olderStore)
	store, err := blobstore.NewDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	key, err := auth.LoadOrCreateKey(filepath.Join(dir, "key"), store.Staging())
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := auth.NewTokens(auth.TokensOptions{Keys: []auth.Key{key}, Records: store, Older: store.Older(), Now: func() time.Time { return olderTime }})
	if err != nil {
		t.Fatal(err)
	}
	grants, err := auth.NewGrants([]auth.Key{key}, store)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := reference.ParseNormalizedNamed("library/base")
	if err != nil {
		t.Fatal(err)
	}
	whole := func(img *image, blobs int) {
		t.Helper()
		all := slices.Concat(img.grant.Objects, img.grant.Injected)
		if len(all) != blobs {
			t.Errorf("%s: %d blobs, want %d", img.grant.Image, len(all), blobs)
		}
		for _, d := range all {
			if err := img.store.Verify(t.Context(), d); err != nil {
				t.Error(err)
			}
		}
	}
	img, err := newTokenImages(tokens, store, nil).image(t.Context(), olderToken)
	if err != nil {
		t.Fatal(err)
	}
	whole(img, 3)
	if _, err := tokens.Open(t.Context(), olderRevoked); !errors.Is(err, auth.ErrRevokedToken) {
		t.Errorf("a token that was revoked: %v", err)
	}
	q := namedRepository{name: "tools", ref: ref, group: olderGroup}
	for _, d := range []digest.Digest{olderRoot, img.grant.Base} {
		named, err := newLedger(grants, store, store).imageOf(t.Context(), q, d)
		if err != nil || (named != nil) != (d == olderRoot) {
			t.Fatalf("%s under a recipe: %v, %v", d, named, err)
		}
		if named != nil {
			whole(named, 2)
		}
	}
	for _, days := range []int{29, 62} {
		if _, err := store.Record(t.Context(), "grants/9188f995617e94972af9644f"); err != nil {
			t.Errorf("before day %d: %v", days, err)
		}
		store.Now = func() time.Time { return time.Now().Add(time.Duration(days) * 24 * time.Hour) }
		if _, err := store.Collect(t.Context(), blobstore.CollectOptions{Retention: 30 * 24 * time.Hour, TokenTTL: auth.DefaultTTL}); err != nil {
			t.Fatal(err)
		}
	}
	if stats, err := store.Stats(t.Context()); err != nil || len(stats) != 0 {
		t.Errorf("left for ever: %v, %v", stats, err)
	}
}
