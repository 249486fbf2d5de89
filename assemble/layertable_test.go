package assemble

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment/archivetest"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// estargz returns a layer with a table of contents, and its descriptor.
func (f fixture) estargz(t *testing.T, toc string) ocispec.Descriptor {
	t.Helper()
	layer := archivetest.Stored(t, archivetest.Tar(t, archivetest.File{Name: "bin", Type: tar.TypeSymlink, Link: "of the layer"}, archivetest.File{Name: "big", Text: strings.Repeat("big", 1<<20)}))
	at := len(layer)
	layer = append(layer, archivetest.Layer(t, archivetest.File{Name: "stargz.index.json", Text: toc})...)
	var footer bytes.Buffer
	z, _ := gzip.NewWriterLevel(&footer, gzip.NoCompression)
	z.Extra = []byte("SG\x16\x00" + fmt.Sprintf("%016xSTARGZ", at))
	z.Close()
	d := f.pushLayer("library/base", append(layer, footer.Bytes()...))
	d.Annotations = map[string]string{"containerd.io/snapshot/stargz/toc.digest": digest.FromString(toc).String()}
	return d
}

const toc = `{"version":1,"entries":[{"name":"bin","type":"symlink","linkName":"usr/bin"}]}`

// ranges returns the requests as method and range.
func (f fixture) ranges() (lines []string) {
	for _, r := range f.registry.TakeRequests() {
		lines = append(lines, strings.TrimSpace(r.Method+" "+r.Header.Get("Range")))
	}
	return lines
}

// TestTables: of a layer with a table of contents only the table is read, once.
func TestTables(t *testing.T) {
	f := newFixture(t)
	d := f.estargz(t, toc)
	source := f.indexer(base)
	for range 2 {
		x, err := source.Index(t.Context(), d)
		wantLink(t, x, err)
	}
	asked := f.ranges()
	if len(asked) != 2 || !strings.HasPrefix(asked[0], "GET bytes=") || !strings.HasPrefix(asked[1], "GET bytes=") {
		t.Errorf("asked for %v", asked)
	}
	x, err := f.indexer(base).Index(t.Context(), d)
	wantLink(t, x, err)
	if asked := f.ranges(); !slices.Equal(asked, []string{"HEAD"}) {
		t.Errorf("with a record, asked for %v", asked)
	}
	// The table is what one manifest claims, and not the layer's.
	plain := d
	plain.Annotations = nil
	x, err = f.indexer(base).Index(t.Context(), plain)
	if err != nil {
		t.Fatal(err)
	}
	if e, _ := x.Find("bin"); e.Target != "of the layer" {
		t.Errorf("bin is %+v", e)
	}
}

// TestWrongTables: a table that cannot be had, or is not what the annotation claims, leads to
// the whole layer, which is recorded as such.
func TestWrongTables(t *testing.T) {
	for name, change := range map[string]func(f fixture, d *ocispec.Descriptor){
		"another digest": func(_ fixture, d *ocispec.Descriptor) {
			d.Annotations = map[string]string{"containerd.io/snapshot/stargz/toc.digest": digest.FromString("another").String()}
		},
		"elsewhere": func(_ fixture, d *ocispec.Descriptor) {
			d.Annotations = map[string]string{"io.github.containers.zstd-chunked.manifest-checksum": digest.FromString(toc).String(), "io.github.containers.zstd-chunked.manifest-position": "7:100:100:1"}
		},
		"no parts": func(f fixture, d *ocispec.Descriptor) {
			path := upstreamtest.BlobPath("library/base", d.Digest)
			layer := f.blobAt(t, *d)
			f.registry.AnswerAt(path, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(layer) })
		},
		"refused parts": func(f fixture, d *ocispec.Descriptor) {
			path := upstreamtest.BlobPath("library/base", d.Digest)
			layer := f.blobAt(t, *d)
			f.registry.AnswerAt(path, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Range") != "" {
					upstreamtest.Status(http.StatusForbidden)(w, r)
					return
				}
				_, _ = w.Write(layer)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			d := f.estargz(t, toc)
			change(f, &d)
			f.registry.TakeRequests()
			x, err := f.indexer(base).Index(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			if e, _ := x.Find("bin"); e.Target != "of the layer" {
				t.Errorf("bin is %+v", e)
			}
			if asked := f.ranges(); asked[len(asked)-1] != "GET" {
				t.Errorf("asked for %v", asked)
			}
			names := recordsOf(f.registry.URL, d)
			if _, err := f.store.Record(t.Context(), names[0]); err != nil {
				t.Errorf("the layer is not recorded: %v", err)
			}
			if _, err := f.store.Record(t.Context(), names[1]); err == nil {
				t.Error("a table is recorded that is none")
			}
		})
	}
}

// blobAt returns a layer of the registry.
func (f fixture) blobAt(t *testing.T, d ocispec.Descriptor) []byte {
	t.Helper()
	resp, err := http.Get(f.registry.URL + upstreamtest.BlobPath("library/base", d.Digest))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	_, _ = b.ReadFrom(resp.Body)
	return b.Bytes()
}
