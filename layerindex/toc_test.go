package layerindex

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment/archivetest"
)

// contents is a table of contents as eStargz and zstd:chunked write it.
const contents = `{"version":1,"entries":[
	{"name":"etc/","type":"dir","mode":448,"uid":3,"gid":4,"modtime":"2024-01-02T03:04:05Z","xattrs":{"user.x":"AQI="},"numLink":2},
	{"name":"etc/a","type":"reg","size":3,"modtime":"2024-01-02T03:04:05Z","digest":"sha256:00","offset":7,"chunkSize":2},
	{"name":"etc/a","type":"chunk","chunkOffset":2},
	{"name":"bin","type":"symlink","linkName":"usr/bin"},
	{"name":"sh","type":"hardlink","linkName":"bin"},
	{"name":"dev/null","type":"char","devMajor":1},
	{"name":"var/.wh.old","type":"reg"},
	{"name":"var/.wh..wh..opq","type":"reg"}
],"tarSplitDigest":"sha256:11"}
`

var tableSays = []string{"opaque var", "whiteout var/old", "link bin usr/bin", "other dev/null", "dir etc", "other etc/a", "link sh usr/bin"}

// estargz returns a layer whose table of contents is toc.
func estargz(t testing.TB, toc string) []byte {
	t.Helper()
	layer := archivetest.Gzip(t, archivetest.Tar(t, file("etc/a"))[:1024])
	at := len(layer)
	layer = append(layer, archivetest.Gzip(t, archivetest.Tar(t, archivetest.File{Name: tocName, Text: toc}))...)
	var footer bytes.Buffer
	z, _ := gzip.NewWriterLevel(&footer, gzip.NoCompression)
	z.Extra = []byte("SG\x16\x00" + fmt.Sprintf("%016xSTARGZ", at))
	z.Close()
	if footer.Len() != footerSize {
		t.Fatalf("the footer has %d bytes", footer.Len())
	}
	return append(layer, footer.Bytes()...)
}

func estargzOf(layer []byte, toc string) ocispec.Descriptor {
	return ocispec.Descriptor{Size: int64(len(layer)), Annotations: map[string]string{tocDigest: digest.FromString(toc).String()}}
}

// chunked returns a layer of zstd:chunked and its descriptor.
func chunked(t testing.TB, toc string) ([]byte, ocispec.Descriptor) {
	t.Helper()
	packed := zstdOf(t, []byte(toc))
	layer := append(zstdOf(t, archivetest.Tar(t, file("etc/a"))), skippable(t, packed)...)
	at := len(layer) - len(packed)
	layer = append(layer, skippable(t, make([]byte, 64))...)
	return layer, ocispec.Descriptor{Size: int64(len(layer)), Annotations: map[string]string{
		manifestChecksum: digest.FromBytes(packed).String(),
		manifestPosition: fmt.Sprintf("%d:%d:%d:1", at, len(packed), len(toc)),
	}}
}

// spans serves ranges of a layer, and counts their bytes.
type spans struct {
	layer []byte
	n     int64
}

func (s *spans) open(_ context.Context, offset, length int64) (io.ReadCloser, error) {
	if offset < 0 || length <= 0 || offset+length > int64(len(s.layer)) {
		return nil, fmt.Errorf("%d bytes from %d on, of %d", length, offset, len(s.layer))
	}
	s.n += length
	return io.NopCloser(bytes.NewReader(s.layer[offset : offset+length])), nil
}

// TestTables: both forms of tables are read, and nothing else of the layer.
func TestTables(t *testing.T) {
	star := estargz(t, contents)
	zstd, zstdDescriptor := chunked(t, contents)
	both := estargzOf(zstd, "another table") // as stargz-snapshotter writes it
	for key, value := range zstdDescriptor.Annotations {
		both.Annotations[key] = value
	}
	for name, test := range map[string]struct {
		layer []byte
		d     ocispec.Descriptor
	}{"eStargz": {star, estargzOf(star, contents)}, "zstd:chunked": {zstd, zstdDescriptor}, "with both annotations": {zstd, both}} {
		toc, ok := TOCOf(test.d)
		if !ok {
			t.Errorf("%s: has no table", name)
			continue
		}
		from := &spans{layer: test.layer}
		x, err := toc.Read(t.Context(), from.open)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want(t, x, tableSays...)
		if e, _ := x.Find("etc"); e.Mode != 0o700 || e.UID != 3 || e.GID != 4 || e.Xattrs["user.x"] != "\x01\x02" || e.ModTime != 1704164645e9 {
			t.Errorf("%s: %+v", name, e)
		}
		if from.n >= int64(len(test.layer)) {
			t.Errorf("%s: %d bytes were read", name, from.n)
		}
	}
}

// TestTheTableIsTheLayer: what the table of a layer says is what the layer says when it is
// read as a whole.
func TestTheTableIsTheLayer(t *testing.T) {
	files := []archivetest.File{dir("etc"), file("etc/a"), link("bin", "/usr/bin"), hard("etc/b", "etc/a"), file("x/.wh.y")}
	entries := []map[string]any{
		{"name": "etc/", "type": "dir", "mode": 0o755, "modtime": "1970-01-01T00:00:00Z"}, {"name": "etc/a", "type": "reg"},
		{"name": "bin", "type": "symlink", "linkName": "/usr/bin"}, {"name": "etc/b", "type": "hardlink", "linkName": "etc/a"}, {"name": "x/.wh.y", "type": "reg"},
	}
	toc, _ := json.Marshal(map[string]any{"version": 1, "entries": entries})
	layer, d := chunked(t, string(toc))
	table, ok := TOCOf(d)
	if !ok {
		t.Fatal("no table")
	}
	x, err := table.Read(t.Context(), (&spans{layer: layer}).open)
	if err != nil {
		t.Fatal(err)
	}
	if whole := indexOf(t, files...); !bytes.Equal(x.Encode(), whole.Encode()) {
		t.Errorf("the table has\n%v, the layer\n%v", says(x), says(whole))
	}
}

// TestWrongTables: a table that is not the one that the annotation claims, or is none, is an
// *Error.
func TestWrongTables(t *testing.T) {
	star := estargz(t, contents)
	zstd, zstdDescriptor := chunked(t, contents)
	moved := func(position string) ocispec.Descriptor {
		d := zstdDescriptor
		d.Annotations = map[string]string{manifestChecksum: d.Annotations[manifestChecksum], manifestPosition: position}
		return d
	}
	var at, length int64
	fmt.Sscanf(zstdDescriptor.Annotations[manifestPosition], "%d:%d", &at, &length)
	badFooter := slices.Clone(star)
	copy(badFooter[len(star)-footerSize+16:], "ffffffffffffffff")
	elsewhere := slices.Clone(star)
	copy(elsewhere[len(star)-footerSize+16:], "0000000000000000")
	of := func(toc string) ([]byte, ocispec.Descriptor) {
		layer := estargz(t, toc)
		return layer, estargzOf(layer, toc)
	}
	type wrong struct {
		layer []byte
		d     ocispec.Descriptor
		says  string
	}
	tests := map[string]wrong{
		"eStargz, another digest":       {star, estargzOf(star, contents+" "), "annotation says"},
		"eStargz, no footer":            {star[:len(star)-1], estargzOf(star[:len(star)-1], contents), "no footer"},
		"eStargz, footer beyond":        {badFooter, estargzOf(star, contents), "no footer"},
		"eStargz, footer to elsewhere":  {elsewhere, estargzOf(star, contents), "no table of contents"},
		"zstd:chunked, other bytes":     {zstd, moved(fmt.Sprintf("0:%d:9:1", at)), ""},
		"zstd:chunked, not whole":       {zstd, moved(fmt.Sprintf("%d:%d:9:1", at, length-1)), ""},
		"zstd:chunked, more than whole": {zstd, moved(fmt.Sprintf("%d:%d:9:1", at, length+1)), ""},
	}
	for name, toc := range map[string]string{
		"a list": `[]`, "no entries": `{"version":1}`, "entries are a map": `{"entries":{}}`, "an entry is a text": `{"entries":["a"]}`, "cut off": `{"entries":[{"name":"a"}`,
		"a huge entry": `{"entries":[{"name":"` + strings.Repeat("a", 2<<20) + `"}]}`, "a huge member": `{"x":"` + strings.Repeat("a", 2<<20) + `","entries":[]}`,
		"NUL": `{"entries":[{"name":"a\u0000b","type":"reg"}]}`, "wrong JSON": `{"entries":[{"name":a}]}`,
	} {
		layer, d := of(toc)
		tests[name] = wrong{layer, d, ""}
	}
	for name, test := range tests {
		toc, ok := TOCOf(test.d)
		if !ok {
			t.Errorf("%s: is not tried", name)
			continue
		}
		_, err := toc.Read(t.Context(), (&spans{layer: test.layer}).open)
		if _, ours := errors.AsType[*Error](err); !ours || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	for name, d := range map[string]ocispec.Descriptor{
		"none": {Size: 1000}, "outside": moved(fmt.Sprintf("%d:%d:9:1", at, len(zstd))), "another type": moved("1:2:3:2"), "no numbers": moved("a:b:c:1"),
		"negative": moved("-1:2:3:1"), "overflow": moved("9223372036854775807:2:3:1"), "no size": {Annotations: zstdDescriptor.Annotations},
		"sha512": {Size: 1000, Annotations: map[string]string{tocDigest: "sha512:" + strings.Repeat("0", 128)}}, "small": {Size: 51, Annotations: map[string]string{tocDigest: digest.FromString(contents).String()}},
	} {
		if toc, ok := TOCOf(d); ok {
			t.Errorf("%s: %+v", name, toc)
		}
	}
	broken := errors.New("broken")
	toc, _ := TOCOf(estargzOf(star, contents))
	if _, err := toc.Read(t.Context(), func(context.Context, int64, int64) (io.ReadCloser, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}
