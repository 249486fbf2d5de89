package augment

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/iotest"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

func zstdOf(t *testing.T, data []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	return z.EncodeAll(data, nil)
}

func TestInspect(t *testing.T) {
	plain := tarOf(
		file{name: "./", kind: tar.TypeDir, mode: 0o40755},
		file{name: "usr/local/bin/x", text: "x", mode: 0o100755},
		file{name: strings.Repeat("long/", 60) + "name", text: "y"},
		file{name: "link", kind: tar.TypeSymlink, link: "/abs/../olute"},
		file{name: "hard", kind: tar.TypeLink, link: "usr/local/bin/x"},
		file{name: "xattr", pax: map[string]string{"SCHILY.xattr.user.a": "b"}},
	)
	half := gzipOf(plain[:1024])
	for name, test := range map[string]struct {
		data        []byte
		compression Compression
	}{
		"plain":             {plain, None},
		"gzip":              {gzipOf(plain), Gzip},
		"gzip in two parts": {append(bytes.Clone(half), gzipOf(plain[1024:])...), Gzip},
		"zstd":              {zstdOf(t, plain), Zstd},

		// What engines take, too.
		"gzip and zeros":              {append(gzipOf(plain), make([]byte, 1000)...), Gzip},
		"gzip parts, zeros between":   {slices.Concat(half, make([]byte, 7), gzipOf(plain[1024:])), Gzip},
		"an empty part of gzip":       {slices.Concat(gzipOf(nil), gzipOf(plain)), Gzip},
		"zstd in two parts":           {slices.Concat(zstdOf(t, plain[:700]), zstdOf(t, plain[700:])), Zstd},
		"a skippable frame, zstd":     {slices.Concat([]byte("\x50\x2a\x4d\x18\x03\x00\x00\x00abc"), zstdOf(t, plain)), Zstd},
		"an empty skippable frame":    {slices.Concat([]byte("\x5f\x2a\x4d\x18\x00\x00\x00\x00"), zstdOf(t, plain)), Zstd},
		"skippable frames in between": {slices.Concat(zstdOf(t, plain[:9]), []byte("\x53\x2a\x4d\x18\x01\x00\x00\x00a\x54\x2a\x4d\x18\x00\x00\x00\x00"), zstdOf(t, plain[9:])), Zstd},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Inspect(t.Context(), bytes.NewReader(test.data), DefaultLimits)
			if err != nil {
				t.Fatal(err)
			}
			if got.Compression != test.compression || got.Digest != digest.FromBytes(test.data) || got.Size != int64(len(test.data)) || got.DiffID != digest.FromBytes(plain) {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestInspectRefuses(t *testing.T) {
	good := tarOf(file{name: "a", text: strings.Repeat("a", 2000)})
	for name, test := range map[string]struct {
		data []byte
		says string
	}{
		"empty":                {nil, "empty"},
		"not an archive":       {[]byte("HELLO"), "not a tar archive"},
		"long, not a tar":      {bytes.Repeat([]byte("HELLO"), 1000), "not a tar archive"},
		"gzip of no archive":   {gzipOf([]byte("HELLO")), "layer"},
		"cut":                  {gzipOf(good)[:20], "cut off"},
		"cut tar":              {good[:1000], "cut off"},
		"garbage after gzip":   {append(gzipOf(good), "garbage that is no gzip"...), "valid"},
		"broken gzip":          {append([]byte{0x1f, 0x8b}, bytes.Repeat([]byte{0xff}, 50)...), "valid"},
		"leaves":               {tarOf(file{name: "a/../../b"}), `"a/../../b"`},
		"leaves from the root": {tarOf(file{name: "/../etc/passwd"}), `"/../etc/passwd"`},
		"absolute, no file":    {tarOf(file{name: "//."}), "root"},
		"absolute whiteout":    {tarOf(file{name: "/.wh."}), "is a whiteout"},
		"absolute, endless":    {tarOf(file{name: "//" + strings.Repeat("a", 4094)}), "4096 bytes"},
		"absolute link leaves": {tarOf(file{name: "a", kind: tar.TypeLink, link: "/../b"}), `"/../b"`},
		"hard link leaves":     {tarOf(file{name: "a", kind: tar.TypeLink, link: "../b"}), `"../b"`},
		"character device":     {tarOf(file{name: "dev/null", kind: tar.TypeChar}), `"dev/null" is a device`},
		"block device":         {tarOf(file{name: "sda", kind: tar.TypeBlock}), "device"},
		"pipe":                 {tarOf(file{name: "p", kind: tar.TypeFifo}), "device or pipe"},
		"whiteout of parent":   {tarOf(file{name: "a/.wh..."}), `"a/.wh..." is a whiteout`},
		"whiteout in disguise": {tarOf(file{name: "a/.wh.../."}), "is a whiteout"},
		"whiteout of itself":   {tarOf(file{name: "a/.wh.."}), "is a whiteout"},
		"whiteout of none":     {tarOf(file{name: ".wh."}), "is a whiteout"},
		"link for the root":    {tarOf(link(".", "etc")), "root"},
		"endless name":         {tarOf(file{name: strings.Repeat("a", 4096)}), "4096 bytes"},
		"endless nesting":      {tarOf(file{name: strings.Repeat("a/", 256) + "a"}), "255 directories"},
		"endless link name":    {tarOf(file{name: "a", kind: tar.TypeLink, link: strings.Repeat("a", 4096)}), "4096 bytes"},
		"sparse terabyte":      {sparse(1<<40, 512), "limit"},
		"sparse, too short":    {sparse(4096, 1024), "valid"},
		"sparse, too long":     {sparse(4096, 0), "valid"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Inspect(t.Context(), bytes.NewReader(test.data), DefaultLimits)
			refusal, ok := errors.AsType[*Error](err)
			if !ok || !strings.Contains(refusal.Error(), test.says) || strings.Contains(refusal.Error(), "\n") {
				t.Errorf("error %v, want a refusal with %q", err, test.says)
			}
		})
	}
	broken := errors.New("connection reset")
	_, err := Inspect(t.Context(), io.MultiReader(bytes.NewReader(gzipOf(good)[:30]), iotest.ErrReader(broken)), DefaultLimits)
	if _, refused := errors.AsType[*Error](err); refused || !errors.Is(err, broken) {
		t.Errorf("error %v, want the reader's", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Inspect(gone, bytes.NewReader(good), DefaultLimits)
	if _, refused := errors.AsType[*Error](err); refused || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the context's", err)
	}
}

// sparse returns an archive of one file that is a hole up to its last bytes. Its
// header claims that many last bytes; there are 512.
func sparse(size, last int64) []byte {
	h := &tar.Header{Name: "hole", Typeflag: tar.TypeReg, Size: 512, Format: tar.FormatGNU}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(h); err != nil {
		panic(err)
	}
	if _, err := w.Write(make([]byte, 512)); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	data := b.Bytes()
	data[156] = tar.TypeGNUSparse
	number := func(n int64) []byte { return binary.BigEndian.AppendUint64([]byte{0x80, 0, 0, 0}, uint64(n)) }
	copy(data[386:], slices.Concat(number(size-last), number(last)))
	copy(data[483:], number(size))
	return withChecksum(data)
}

// withChecksum returns the archive with a valid checksum in its changed first header.
func withChecksum(data []byte) []byte {
	copy(data[148:156], "        ")
	sum := 0
	for _, c := range data[:512] {
		sum += int(c)
	}
	copy(data[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return data
}

func TestInspectLimits(t *testing.T) {
	bomb := gzipOf(tarOf(file{name: "zeros", text: strings.Repeat("\x00", 4<<20)}))
	if _, err := Inspect(t.Context(), bytes.NewReader(bomb), Limits{Bytes: 1 << 20, Entries: 10}); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("a bomb: %v", err)
	}
	many := tarOf(slices.Repeat([]file{{name: "x"}}, 11)...)
	if _, err := Inspect(t.Context(), bytes.NewReader(many), Limits{Bytes: 1 << 20, Entries: 10}); err == nil || !strings.Contains(err.Error(), "10 entries") {
		t.Errorf("many entries: %v", err)
	}
	if _, err := Inspect(t.Context(), bytes.NewReader(many), Limits{Bytes: 1 << 20, Entries: 11}); err != nil {
		t.Errorf("as many as allowed: %v", err)
	}
}

func TestPack(t *testing.T) {
	tree := fstest.MapFS{
		"usr/bin/tool": {Data: []byte("tool"), Mode: 0o4755, ModTime: time.Now()},
		"b":            {Data: []byte("b"), Mode: 0o600},
		"a/empty":      {Mode: 0o700 | os.ModeDir},
		"tmp/x":        {Data: []byte("x"), Mode: 0o644},
		"link":         {Data: []byte("usr/bin/tool"), Mode: os.ModeSymlink | 0o777},
	}
	m := newMemory()
	var packed bytes.Buffer
	if err := Pack(&packed, tree, "/"); err != nil {
		t.Fatal(err)
	}
	l := m.layer(packed.Bytes())
	got := m.unpacked(t, l)
	for name, want := range map[string]string{"usr/": "dir", "usr/bin/": "dir", "usr/bin/tool": "tool", "b": "b", "a/empty/": "dir", "tmp/x": "x", "link": "-> usr/bin/tool", "tmp/": ""} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	if want := digest.Digest("sha256:" + packedDiffID); l.DiffID != want {
		t.Errorf("diff ID %s, want %s: the archive of these files must never change", l.DiffID, want)
	}
	packed.Reset()
	if err := Pack(&packed, fstest.MapFS{"s": {Mode: 0o755}}, "/opt/my/scripts/"); err != nil {
		t.Fatal(err)
	}
	if got := m.unpacked(t, m.layer(packed.Bytes())); len(got) != 4 || got["opt/"] != "dir" || got["opt/my/scripts/"] != "dir" || got["opt/my/scripts/s"] != "" {
		t.Errorf("below a target: %v", got)
	}
	for _, target := range []string{"relative", "", "/a/../b"} {
		if err := Pack(io.Discard, tree, target); err == nil {
			t.Errorf("target %q was taken", target)
		}
	}
	if err := Pack(io.Discard, fstest.MapFS{"sock": {Mode: os.ModeSocket}}, "/"); err == nil || !strings.Contains(err.Error(), "sock") {
		t.Errorf("a socket was packed: %v", err)
	}
}

// TestPackDirectory packs a real directory, with a link and times that differ.
func TestPackDirectory(t *testing.T) {
	var digests []digest.Digest
	for i := range 2 {
		dir := t.TempDir()
		for _, name := range []string{"z", "a"} {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte(name), 0o640); err != nil {
				t.Fatal(err)
			}
			old := time.Now().Add(time.Duration(-i) * time.Hour)
			if err := os.Chtimes(path, old, old); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("a", filepath.Join(dir, "l")); err != nil {
			t.Fatal(err)
		}
		var packed bytes.Buffer
		if err := Pack(&packed, os.DirFS(dir), "/"); err != nil {
			t.Fatal(err)
		}
		digests = append(digests, digest.FromBytes(packed.Bytes()))
	}
	if digests[0] != digests[1] {
		t.Errorf("the same files give %v", digests)
	}
}

const packedDiffID = "941333affa46e793b9b783a9b9384ffe00156d8edf86e48c73b6589e238eea75"
