package attack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/waveproxy/waveproxy/integration/harness"
)

// gzipped returns a stream of the given number of gzip members, each of which
// holds text.
func gzipped(t *testing.T, times int, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return bytes.Repeat(b.Bytes(), times)
}

// zstandard does the same with zstd.
func zstandard(t *testing.T, times int, text []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Repeat(w.EncodeAll(text, nil), times)
}

// zstdFrame is a zstd frame of n blocks of 128 KiB of zeros, in four bytes
// each, for a decoder with a window of 2^log bytes.
func zstdFrame(log, n int) []byte {
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, byte(log-10) << 3}
	for i := range n {
		block := byte(2) // all bytes are the same
		if i == n-1 {
			block |= 1 // the last one
		}
		frame = append(frame, block, 0, 0x10, 0)
	}
	return frame
}

// tarOf returns an uncompressed archive, which may be a bad one.
func tarOf(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	for i := range headers {
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&headers[i]); err != nil {
			t.Fatal(err)
		}
		_ = w.Flush() // may fail: the content that the header announces is missing
	}
	return append(b.Bytes(), make([]byte, 1024)...)
}

func inlined(archive []byte) string {
	return "data:" + base64.StdEncoding.EncodeToString(archive)
}

func deflated(t *testing.T, archive []byte) string {
	t.Helper()
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	if _, err := z.Write(archive); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return "gzip:" + base64.StdEncoding.EncodeToString(b.Bytes())
}

// TestAttackArchives submits layers that no engine should receive, in every way
// that layers can be given. None is kept.
func TestAttackArchives(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	regular := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644} }
	linked := func(kind byte, to string) tar.Header { return tar.Header{Name: "link", Linkname: to, Typeflag: kind} }
	good := tarOf(t, regular("good"))
	broken := func(offset int, text string) []byte {
		b := bytes.Clone(good)
		copy(b[offset:], text)
		copy(b[148:156], "        ")
		sum := 0
		for _, c := range b[:512] {
			sum += int(c)
		}
		copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
		return b
	}
	archives := map[string][]byte{
		"a name above the root":    tarOf(t, regular("../etc/passwd")),
		"a name that leaves":       tarOf(t, regular("a/../../etc/passwd")),
		"a name of dots":           tarOf(t, regular("..")),
		"a name that ends in dots": tarOf(t, regular("a/..")),
		"dots after a dot":         tarOf(t, regular("./../x")),
		"above, from the root":     tarOf(t, regular("/../etc/passwd")),
		"two slashes, above":       tarOf(t, regular("//./../etc/passwd")),
		"the second entry":         tarOf(t, regular("a"), regular("../b")),
		"a hard link above":        tarOf(t, linked(tar.TypeLink, "../../etc/shadow")),
		"a hard link from above":   tarOf(t, linked(tar.TypeLink, "/../etc/shadow")),
		"a hard link that leaves":  tarOf(t, linked(tar.TypeLink, "a/../../etc/shadow")),
		"a hard link to nothing":   broken(156, "1"),
		"a disk":                   tarOf(t, tar.Header{Name: "dev/sda", Typeflag: tar.TypeBlock, Devmajor: 8}),
		"a character device":       tarOf(t, tar.Header{Name: "dev/mem", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 1}),
		"a pipe":                   tarOf(t, tar.Header{Name: "pipe", Typeflag: tar.TypeFifo}),
		"an unknown type":          broken(156, "Z"),
		"a long name that leaves":  tarOf(t, regular(strings.Repeat("a/", 500)+strings.Repeat("../", 501)+"x")),
		"a file of 8 EiB":          tarOf(t, tar.Header{Name: "big", Typeflag: tar.TypeReg, Size: 1<<63 - 1, Format: tar.FormatGNU}),
		"a negative size":          broken(124, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
		"a wrong checksum":         bytes.Replace(good, []byte("good"), []byte("evil"), 1),
		"a name of no length":      broken(0, "\x00"),
		"no archive":               []byte(strings.Repeat("<html>", 1000)),
		"an archive twice packed":  gzipped(t, 1, good),
	}
	// Base images may have these entries, and so may included ones.
	ofImages := map[string]bool{"a disk": true, "a character device": true, "a pipe": true}
	p := harness.StartProxy(t, "", h.settings())
	image := h.host() + "/good:x"
	members := func(l harness.Layer) map[string]any {
		return map[string]any{"containerImage": image, "containerConfig": harness.Config{Layers: []harness.Layer{l}}}
	}
	// by returns one submission of the archive for each way to give a layer.
	by := func(t *testing.T, archive, plain []byte) map[string]map[string]any {
		layer := h.Layer
		layer.Archive, layer.GzipDigest, layer.GzipSize, layer.TarDigest = archive, harness.Sum(archive), len(archive), harness.Sum(plain)
		bad := h.tinyImage
		bad.Layer = layer
		bad.Config = fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[%q]}}`, layer.TarDigest)
		bad.Manifest = manifestOf(t, described{configType, harness.Sum(bad.Config), len(bad.Config), nil}, described{layerType, layer.GzipDigest, layer.GzipSize, nil})
		h.on("bad", bad.ServeHTTP)
		return map[string]map[string]any{
			"data":    members(harness.Layer{Location: inlined(archive)}),
			"gzip":    members(harness.Layer{Location: deflated(t, archive)}),
			"http":    members(harness.Layer{Location: h.URL + "/l.tar.gz?of=bad"}),
			"docker":  members(harness.Layer{Location: "docker://" + h.host() + "/v2/bad/blobs/" + layer.GzipDigest}),
			"include": {"containerImage": image, "containerIncludes": []string{h.host() + "/bad:" + layer.GzipDigest[7:20]}},
		}
	}
	for name, plain := range archives {
		t.Run(name, func(t *testing.T) {
			for way, request := range by(t, gzipped(t, 1, plain), plain) {
				if ofImages[name] && (way == "docker" || way == "include") {
					wantStatus(t, name+" by "+way, p.Post(t, submission, request), http.StatusOK)
					continue
				}
				before := harness.Stored(t, p.Dir)
				r := p.Post(t, submission, request)
				if r.Status != http.StatusBadRequest {
					t.Errorf("BREACH: by %s: status %d, want 400: %s", way, r.Status, r.Body)
				}
				harness.WantMessage(t, r.Body)
				if after := harness.Stored(t, p.Dir); after != before {
					t.Errorf("by %s: the refused layer left files in the storage:\n%s", way, after)
				}
			}
		})
	}
	for way, request := range by(t, gzipped(t, 1, good), good) {
		wantStatus(t, "a good layer by "+way, p.Post(t, submission, request), http.StatusOK)
	}
}
