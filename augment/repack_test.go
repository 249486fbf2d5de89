package augment

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/internal/unpack"
)

func link(name, target string) file { return file{name: name, kind: tar.TypeSymlink, link: target} }
func dir(name string) file          { return file{name: name, kind: tar.TypeDir, mode: 0o755} }

// bases are the bottom layers of distributions, cut down to their usrmerge roots.
var bases = map[string][]file{
	"debian":  {link("bin", "usr/bin"), dir("boot/"), {name: "etc/passwd"}, link("lib", "usr/lib"), link("lib64", "usr/lib64"), link("sbin", "usr/sbin"), dir("usr/"), dir("usr/bin/"), dir("usr/lib64/"), dir("usr/sbin/")},
	"fedora":  {link("./bin", "usr/bin"), link("./lib", "usr/lib"), link("./lib64", "usr/lib64"), link("./sbin", "usr/sbin"), dir("./usr/"), link("./usr/sbin", "bin"), dir("./usr/lib64/")},
	"busybox": {dir("bin/"), {name: "bin/busybox"}, {name: "sbin/init"}, dir("lib/")},
	"circle":  {link("bin", "/sbin"), link("sbin", "bin")},
	"nothing": {{name: "app"}},
	"rooted":  {link("bin", "/usr/bin")},
	"endless": {link("bin", strings.Repeat("usr/bin/", 1000))},
}

func TestRelocate(t *testing.T) {
	m := newMemory()
	l := m.layer(archive(
		dir("bin/"), file{name: "bin/hello", text: "hello", pax: map[string]string{"SCHILY.xattr.user.a": "b"}},
		link("bin/relative", "../opt/tool"), link("bin/absolute", "/opt/tool"),
		file{name: "sbin/daemon", text: "d"}, file{name: "sbin/again", kind: tar.TypeLink, link: "bin/hello"},
		file{name: "usr/bin/own", text: "own"}, file{name: "opt/tool", text: "tool"}, file{name: "binary", text: "x"},
		file{name: "lib/" + strings.Repeat("deep/", 30) + "x", text: "deep"},
	))
	merged := []file{link("bin", "usr/bin"), link("sbin", "usr/sbin"), link("lib", "usr/lib"), dir("usr/bin/"), dir("usr/sbin/"), dir("usr/lib/")}
	got, err := repackOver(t.Context(), m, []Layer{l}, merged)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"usr/bin/hello": "hello", "usr/bin/relative": "-> ../opt/tool", "usr/bin/absolute": "-> /opt/tool",
		"usr/sbin/daemon": "d", "usr/sbin/again": "= usr/bin/hello", "usr/bin/own": "own", "opt/tool": "tool", "binary": "x",
		"usr/lib/" + strings.Repeat("deep/", 30) + "x": "deep",
	}
	if diff := cmp.Diff(want, m.unpacked(t, got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if xattr := xattrs(t, m, got)["usr/bin/hello"]; xattr != "b" {
		t.Errorf("the extended attribute is %q", xattr)
	}
	again, err := repackOver(t.Context(), m, []Layer{l}, merged)
	if err != nil || again.Digest != got.Digest {
		t.Errorf("again: %v, %v", again.Digest, err)
	}
}

// TestRelocateOntoItself: a layer made for separate directories may have a link in
// one directory to the same name in the other. Where both are one directory, the
// link would lead to itself.
func TestRelocateOntoItself(t *testing.T) {
	hard := func(name, target string) file { return file{name: name, kind: tar.TypeLink, link: target} }
	x := file{name: "bin/x", text: "x"}
	for name, test := range map[string]struct {
		files []file
		want  map[string]string
	}{
		"hard link":                {[]file{x, hard("usr/bin/x", "bin/x")}, map[string]string{"usr/bin/x": "x"}},
		"hard link, file in usr":   {[]file{{name: "usr/bin/x", text: "x"}, hard("bin/x", "./usr/bin/x")}, map[string]string{"usr/bin/x": "x"}},
		"absolute link":            {[]file{x, link("usr/bin/x", "/bin/x")}, map[string]string{"usr/bin/x": "x"}},
		"relative link":            {[]file{x, link("usr/bin/x", "../../bin/x")}, map[string]string{"usr/bin/x": "x"}},
		"link, file in usr":        {[]file{{name: "usr/bin/x", text: "x"}, link("bin/x", "../usr/bin/x")}, map[string]string{"usr/bin/x": "x"}},
		"link first":               {[]file{link("usr/bin/x", "/bin/x"), x}, map[string]string{"usr/bin/x": "x"}},
		"link to the base's":       {[]file{link("bin/sh", "/usr/bin/sh"), x}, map[string]string{"usr/bin/x": "x"}},
		"directory":                {[]file{x, link("usr/bin", "../bin")}, map[string]string{"usr/bin/x": "x"}},
		"to a namesake elsewhere":  {[]file{x, link("sbin/x", "/bin/x")}, map[string]string{"usr/bin/x": "x", "usr/sbin/x": "-> /bin/x"}},
		"to itself from the start": {[]file{x, link("opt/x", "x")}, map[string]string{"usr/bin/x": "x", "opt/x": "-> x"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			got, err := repackOver(t.Context(), m, []Layer{m.layer(archive(test.files...))}, []file{link("bin", "usr/bin"), link("sbin", "usr/sbin"), dir("usr/bin/"), dir("usr/sbin/")})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, m.unpacked(t, got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestRepackHeader: a header may hold values that no single format can.
func TestRepackHeader(t *testing.T) {
	data := tarOf(file{name: "bin/x", pax: map[string]string{"SCHILY.xattr.user.a": "b"}})
	header := data[1024:] // the extended header stands before it
	copy(header[100:], []byte{0x80, 0, 0, 0, 1, 0, 0, 0})
	withChecksum(header)
	m := newMemory()
	_, err := repackOver(t.Context(), m, []Layer{m.layer(gzipOf(data))}, []file{link("bin", "usr/bin")})
	refused(t, err, `"usr/bin/x"`)
}

// TestRepackEndsWithContext: repack ends with its context, even in the middle of
// one large file.
func TestRepackEndsWithContext(t *testing.T) {
	m := newMemory()
	l := m.layer(gzipOf(tarOf(file{name: "bin/x", text: incompressible(4 << 20)})))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	archives := &canceling{memory: m, cancel: cancel}
	if _, err := repackOver(ctx, archives, []Layer{l}, []file{link("bin", "usr/bin")}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if archives.read > 3<<20 {
		t.Errorf("%d bytes were read after the end", archives.read-1<<20)
	}
}

func incompressible(n int) string {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b)
	return string(b)
}

// canceling cancels a context when the second pass over an archive has read 1 MiB.
type canceling struct {
	*memory
	cancel func()
	opened int
	read   int
}

func (c *canceling) Open(ctx context.Context, d digest.Digest) (io.ReadSeekCloser, error) {
	f, err := c.memory.Open(ctx, d)
	c.opened++
	return &cancelingFile{f, c}, err
}

type cancelingFile struct {
	io.ReadSeekCloser
	c *canceling
}

func (f *cancelingFile) Read(p []byte) (int, error) {
	n, err := f.ReadSeekCloser.Read(p)
	if f.c.opened == 2 {
		if f.c.read += n; f.c.read > 1<<20 {
			f.c.cancel()
		}
	}
	return n, err
}

func xattrs(t *testing.T, m *memory, l Layer) map[string]string {
	t.Helper()
	in, _, err := decompress(unpack.New(t.Context()), newBufio(m.archives[l.Digest]), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	found := map[string]string{}
	r := tar.NewReader(in)
	for {
		h, err := r.Next()
		if err == io.EOF {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		found[h.Name] = h.PAXRecords["SCHILY.xattr.user.a"]
	}
}

// TestKeep: a layer of any compression is stored as gzip, and a gzip layer keeps
// its bytes.
func TestKeep(t *testing.T) {
	plain := tarOf(file{name: "bin/x", text: "x"})
	for name, data := range map[string][]byte{"gzip": gzipOf(plain), "zstd": zstdOf(t, plain), "plain": plain} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			found, err := Inspect(t.Context(), bytes.NewReader(data), DefaultLimits)
			if err != nil {
				t.Fatal(err)
			}
			l, err := Keep(t.Context(), m, bytes.NewReader(data), found)
			if err != nil {
				t.Fatal(err)
			}
			if name == "gzip" && l.Digest != digest.FromBytes(data) {
				t.Errorf("gzip was changed to %s", l.Digest)
			}
			if l.DiffID != digest.FromBytes(plain) || m.unpacked(t, l)["bin/x"] != "x" {
				t.Errorf("kept %+v", l)
			}
		})
	}
}

// TestMergedImage: layers beyond the limit are merged into one, and an image that
// is still over the limit is refused.
func TestMergedImage(t *testing.T) {
	m := newMemory()
	m.image("amd64", "", "base")
	recipe := Recipe{Layers: []Layer{m.layer(archive(file{name: "a", text: "1"})), m.layer(archive(file{name: "a", text: "2"}, file{name: "bin/x"}))}}
	for limit, want := range map[int]int{3: 2, 2: 1} {
		img, err := NewAugmenter(limit).Apply(t.Context(), m, Request{Name: "x", Reference: "base", Recipe: recipe, Archives: m})
		if err != nil || len(img.Layers) != want {
			t.Fatalf("limit %d: %d injected layers, want %d; %v", limit, len(img.Layers), want, err)
		}
		if want == 1 && m.unpacked(t, img.Layers[0])["a"] != "2" {
			t.Error("the later layer does not win")
		}
	}
	if _, err := NewAugmenter(1).Apply(t.Context(), m, Request{Name: "x", Reference: "base", Recipe: recipe, Archives: m}); err == nil || !strings.Contains(err.Error(), "take 1") {
		t.Errorf("error %v", err)
	}
}
