package layerindex

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/waveproxy/waveproxy/augment/archivetest"
)

// recordOf returns a record with a right checksum.
func recordOf(size int, tables []byte) []byte {
	packed := append(binary.BigEndian.AppendUint64(nil, uint64(size)), tables...)
	sum := sha256.Sum256(packed)
	return slices.Concat([]byte(recordForm), sum[:], packed)
}

// TestDamagedRecords: no change of a record goes unnoticed.
func TestDamagedRecords(t *testing.T) {
	x := indexOf(t, dir("etc"), file("etc/a"), link("bin", "usr/bin"), file("etc/.wh.b"), hard("b", "etc/a"))
	record := x.Encode()
	y, err := Decode(record)
	if err != nil || !slices.Equal(says(x), says(y)) || x.Simple() != y.Simple() || !bytes.Equal(y.Encode(), record) {
		t.Fatalf("%v: %v", err, says(y))
	}
	if n, err := DecodedBytes(record); err != nil || n < int64(len(y.entries.data)+len(y.marks.data)) || n > y.Bytes() {
		t.Errorf("%d bytes for an index of %d, %v", n, y.Bytes(), err)
	}
	for i := range record {
		damaged := slices.Clone(record)
		damaged[i] ^= 4
		if _, err := Decode(damaged); err == nil {
			t.Errorf("byte %d changed, and nothing is said", i)
		}
		if _, err := Decode(record[:i]); err == nil {
			t.Errorf("only %d bytes, and nothing is said", i)
		}
	}
	if _, err := Decode(append(slices.Clone(record), 0)); err == nil {
		t.Error("a byte more, and nothing is said")
	}
}

// FuzzDecode: whatever a record has, Decode returns an index that can be asked, or an error.
func FuzzDecode(f *testing.F) {
	for _, files := range [][]archivetest.File{nil, {dir("a"), file("a/b"), link("l", "a"), hard("h", "l"), file("a/.wh.x"), file(".wh..wh..opq")}} {
		f.Add(indexOf(f, files...).Encode()[len(recordForm)+sha256.Size+8:], true)
	}
	f.Add([]byte("\x00\x00\x00\x00\x00\x00"), false)
	f.Add([]byte("\x01\x01\x03\x00\x00\x00\x01\x08\x00\x01a\x01\x00\x00\x00\x00\x00"), false)
	f.Fuzz(func(t *testing.T, payload []byte, packed bool) {
		size := 0
		if !packed {
			size, payload = len(payload), zstdOf(t, payload)
		} else if z, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(1<<20)); err == nil {
			plain, _ := z.DecodeAll(payload, nil)
			z.Close()
			size = len(plain)
		}
		x, err := Decode(recordOf(size, payload))
		if err != nil {
			return
		}
		probe(t, x)
		y, err := Decode(x.Encode())
		if err != nil || !slices.Equal(says(x), says(y)) {
			t.Errorf("%v: %v became %v", err, says(x), says(y))
		}
	})
}

// probe asks an index about everything that it has.
func probe(t *testing.T, x *Index) {
	t.Helper()
	n := 0
	for e := range x.All() {
		n++
		found, ok := x.Find(e.Name)
		if e.Kind != Whiteout && e.Kind != Opaque && (!ok || found.Name != e.Name) {
			t.Errorf("%+v is not found: %+v", e, found)
		}
		x.Hides(e.Name)
		x.HasBelow(e.Name)
		if e.Kind == Whiteout && !x.Hides(e.Name) {
			t.Errorf("%q is not hidden", e.Name)
		}
	}
	if n != x.Len() || x.Bytes() <= 0 {
		t.Errorf("%d of %d", n, x.Len())
	}
}

// FuzzRead: whatever a layer has, Read returns an index that can be asked and recorded, or an
// error.
func FuzzRead(f *testing.F) {
	plain := archivetest.Tar(f, dir("a"), file("a/b"), link("l", "a"), hard("h", "l"), file("a/.wh.x"), file("../.wh..wh..opq"))
	for _, data := range [][]byte{nil, plain, archivetest.Gzip(f, plain), zstdOf(f, plain), []byte("BZh91AY&SY")} {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := Read(t.Context(), bytes.NewReader(data))
		if err != nil {
			return
		}
		probe(t, x)
		if y, err := Decode(x.Encode()); err != nil || !slices.Equal(says(x), says(y)) {
			t.Errorf("%v: %v became %v", err, says(x), says(y))
		}
	})
}

// FuzzTable: whatever a table of contents has, reading it returns an index that can be asked,
// or an error.
func FuzzTable(f *testing.F) {
	for _, toc := range []string{contents, `{"entries":[]}`, `{"entries":[{"name":"a","type":"dir"}]}`} {
		f.Add(toc)
	}
	f.Fuzz(func(t *testing.T, text string) {
		layer, d := chunked(t, text)
		toc, ok := TOCOf(d)
		if !ok {
			return
		}
		if x, err := toc.Read(t.Context(), (&spans{layer: layer}).open); err == nil {
			probe(t, x)
		}
	})
}
