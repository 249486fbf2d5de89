package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/internal/pack"
	"github.com/waveproxy/waveproxy/internal/sizedlru"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// TestNamedInterrupted: a server that is killed before it has written all records,
// or cannot write them, has advertised nothing. The next server writes them.
func TestNamedInterrupted(t *testing.T) {
	net := newNetwork(t)
	net.PushIndex(t, "library/app", "1", "one", "amd64", "arm64")
	net.records.fail = os.ErrPermission
	if a := net.start().do("GET", toolsApp+"1"); a.status != 500 {
		t.Errorf("status %d where no record can be written", a.status)
	}
	net.records.fail = nil
	digests := pull(t, "tools/library/app", "1", net.start())
	records, err := filepath.Glob(filepath.Join(recordsOf(t, net), "*", "images", "sha256-*.record"))
	if err != nil || len(records) != 1 {
		t.Fatalf("%d records of an image, %v", len(records), err)
	}
	for _, lost := range records {
		if err := os.Remove(lost); err != nil {
			t.Fatal(err)
		}
		tags, err := filepath.Glob(filepath.Join(recordsOf(t, net), "*", "tags", "*"))
		if err != nil || len(tags) != 1 || os.Remove(tags[0]) != nil {
			t.Fatal("no record of the tag", err)
		}
		s := net.start()
		s.do("HEAD", toolsApp+digests[0].String()) // it knows the image before it writes
		s.do("HEAD", toolsApp+"1")
		other := net.start()
		for _, d := range digests {
			if other.do("HEAD", toolsApp+d.String()).status != 200 && other.do("HEAD", "tools/library/app/blobs/"+d.String()).status != 200 {
				t.Errorf("%s is missing", d)
			}
		}
	}
	// A tag whose image is gone is looked up again.
	s := net.start()
	for _, lost := range records {
		if err := os.Remove(lost); err != nil {
			t.Fatal(err)
		}
	}
	pull(t, "tools/library/app", "1", s)
}

// TestNamedOldRecords: the records of older versions, one for each digest, are
// served. Pointers may have gone with their key: a server that learns the tag writes
// the image's record, which has all digests.
func TestNamedOldRecords(t *testing.T) {
	for name, lost := range map[string]bool{"all": false, "pointers lost": true} {
		t.Run(name, func(t *testing.T) {
			net := newNetwork(t)
			net.PushIndex(t, "library/app", "1", "one", "amd64")
			digests := pull(t, "tools/library/app", "1", net.start())
			q, img := net.withOldRecords(t, digests[0])
			if !lost {
				for _, d := range digests[1:] {
					if err := net.records.Put(t.Context(), q.olderRecord(d), auth.Grant{Image: img.grant.Image, Root: ocispec.Descriptor{Digest: digests[0]}}); err != nil {
						t.Fatal(err)
					}
				}
			}
			net.TakeRequests()
			net.records.written()
			if lost {
				net.start().do("HEAD", toolsApp+"1")
				if n := net.records.written(); n != 1 {
					t.Errorf("%d records, want the image's", n)
				}
			}
			other := net.start()
			for _, d := range digests {
				if other.do("HEAD", toolsApp+d.String()).status != 200 && other.do("HEAD", "tools/library/app/blobs/"+d.String()).status != 200 {
					t.Errorf("%s is missing", d)
				}
			}
			net.WantAnyOrder(t)
		})
	}
}

// withOldRecords replaces the record of an image by what older versions wrote of its
// root.
func (net *network) withOldRecords(t *testing.T, root digest.Digest) (namedRepository, *image) {
	t.Helper()
	s := net.start()
	q, err := s.server.named.paths.parse(route{token: "tools", name: "library/app"}, "")
	if err != nil {
		t.Fatal(err)
	}
	img, err := s.server.named.ledger.imageOf(t.Context(), q, root)
	if err != nil || img == nil {
		t.Fatal(img, err)
	}
	var parts []pack.Part
	for _, d := range slices.Concat(img.grant.Objects, img.grant.Injected) {
		parts = append(parts, pack.Part{Digest: d, Open: func(ctx context.Context) (io.ReadCloser, error) { return img.store.Open(ctx, d) }})
	}
	storeApart(t, net.store, parts)
	if err := net.records.Put(t.Context(), q.olderRecord(root), *img.grant); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(net.dir, "records", filepath.FromSlash(q.imageRecord(root))+".record")); err != nil {
		t.Fatal(err)
	}
	return q, img
}

// storeApart stores blobs each in a file, as older versions did.
func storeApart(t *testing.T, store blobstore.Store, parts []pack.Part) {
	t.Helper()
	for _, p := range parts {
		r, err := p.Open(t.Context())
		if err == nil {
			err = store.Put(t.Context(), p.Digest, r)
			r.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func recordsOf(t *testing.T, net *network) string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(net.dir, "records", "named"))
	if err != nil || len(dirs) != 1 {
		t.Fatal("no records", err)
	}
	return dirs[0]
}

// TestNamedRecords: servers that write at the same time may leave a pointer to a
// pointer, which is followed. A circle of pointers is an error.
func TestNamedRecords(t *testing.T) {
	net := newNetwork(t)
	net.PushIndex(t, "library/app", "1", "one", "amd64")
	root := net.start().get(toolsApp + "1").digest()
	q, _ := net.withOldRecords(t, root)
	s := net.start()
	point := func(from, to digest.Digest) {
		t.Helper()
		if err := net.records.Put(t.Context(), q.olderRecord(from), auth.Grant{Root: ocispec.Descriptor{Digest: to}}); err != nil {
			t.Fatal(err)
		}
	}
	one, two := digest.FromString("one"), digest.FromString("two")
	point(net.layer.Digest, root)
	point(one, net.layer.Digest)
	if img, err := s.server.named.ledger.imageOf(t.Context(), q, one); err != nil || img == nil || img.grant.Root.Digest != root {
		t.Errorf("got %v, %v", img, err)
	}
	three := digest.FromString("three")
	point(two, three)
	if img, err := s.server.named.ledger.imageOf(t.Context(), q, two); err != nil || img != nil {
		t.Errorf("a record that leads nowhere: %v, %v", img, err)
	}
	point(three, two)
	if img, err := s.server.named.ledger.imageOf(t.Context(), q, two); err == nil {
		t.Errorf("records in a circle lead to %v, and there is no error", img)
	}
}

// TestNamedSharedRoot: an image under two tags keeps the grant that was recorded
// first, so that its provenance does not change.
func TestNamedSharedRoot(t *testing.T) {
	net := newNetwork(t)
	docker := "application/vnd.docker.distribution.manifest.v2+json" // has no annotations that name the tag
	img := net.PushIndex(t, "library/app", "x", "one", "amd64")
	body := strings.ReplaceAll(string(img.Images[0].Manifest.Data), ocispec.MediaTypeImageManifest, docker)
	body = strings.ReplaceAll(body, ocispec.MediaTypeImageLayerGzip, "application/vnd.docker.image.rootfs.diff.tar.gzip")
	net.PutManifest("library/app", upstreamtest.Object{MediaType: docker, Data: []byte(body)}, "1", "2")
	a, b := net.start(), net.start()
	first := a.get(toolsApp + "1").digest()
	if b.get(toolsApp+"2").digest() != first || b.get(toolsApp+"1").digest() != first || a.get(toolsApp+"2").digest() != first {
		t.Fatal("the images differ")
	}
	list := a.do("GET", "tools/library/app/referrers/"+first.String())
	if again := b.do("GET", "tools/library/app/referrers/"+first.String()); !bytes.Equal(list.body, again.body) || !strings.Contains(string(list.body), inTotoType) {
		t.Errorf("referrers %s and %s", list.body, again.body)
	}
}

// TestNamedMemory: memory is bounded, and everything that leaves it is still
// served.
func TestNamedMemory(t *testing.T) {
	net := newNetwork(t)
	s := net.start()
	n := s.server.named
	n.ledger.images = sizedlru.New[ownedDigest, *image](imagesCost, 2, 0)
	n.ledger.roots = sizedlru.New[ownedDigest, digest.Digest](rootsCost, 8, 0)
	n.tags.tags.Resize(2)
	n.tags.failures.recent = sizedlru.New[string, failure](failuresCost, 2, 0)
	var roots []digest.Digest
	for i := range 6 {
		tag := fmt.Sprint("t", i)
		net.PushIndex(t, "library/app", tag, tag, "amd64")
		roots = append(roots, pull(t, "tools/library/app", tag, s)[0])
	}
	net.TakeRequests()
	for i, root := range roots {
		if got := s.get(fmt.Sprintf("%st%d", toolsApp, i)).digest(); got != root {
			t.Errorf("tag t%d is %s, want %s", i, got, root)
		}
	}
	net.WantAnyOrder(t)
	for _, root := range roots {
		pull(t, "tools/library/app", root.String(), s)
	}
	if n.ledger.images.Len() > 2 || n.ledger.roots.Len() > 8 || n.tags.tags.Len() > 2 {
		t.Error("the caches exceed their sizes")
	}
}
