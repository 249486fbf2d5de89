package layerindex

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"

	"github.com/waveproxy/waveproxy/augment/archivetest"
	"github.com/waveproxy/waveproxy/budget"
)

func zstdOf(t testing.TB, data []byte, options ...zstd.EOption) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil, options...)
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll(data, nil)
}

// skippable returns a frame that decoders skip.
func skippable(t testing.TB, data []byte) []byte {
	t.Helper()
	frame, err := (&zstd.Header{Skippable: true, SkippableSize: uint32(len(data))}).AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	return append(frame, data...)
}

// TestEveryForm: layers are read in every form that engines take.
func TestEveryForm(t *testing.T) {
	plain := archivetest.Tar(t, dir("etc"), file("etc/a"), link("bin", "usr/bin"))
	half := len(plain) / 2
	garbage := bytes.Repeat([]byte("garbage"), 100)
	global := archivetest.Tar(t, archivetest.File{Name: "pax_global_header", Type: tar.TypeXGlobalHeader, PAX: map[string]string{"comment": "commit"}})
	// Of bytes that do not compress, so that it fills every buffer on the way.
	noise := make([]byte, 600<<10)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(noise)
	large := archivetest.Tar(t, dir("etc"), archivetest.File{Name: "etc/a", Text: string(noise)}, link("bin", "usr/bin"))
	forms := map[string][]byte{
		"plain":                      plain,
		"large":                      large,
		"large, gzip":                archivetest.Gzip(t, large),
		"large, zstd":                zstdOf(t, large),
		"garbage behind the end":     slices.Concat(plain, garbage),
		"no end":                     plain[:len(plain)-1024],
		"gzip":                       archivetest.Gzip(t, plain),
		"gzip, garbage":              append(archivetest.Gzip(t, plain), garbage...),
		"gzip in members":            append(archivetest.Gzip(t, plain[:half]), archivetest.Gzip(t, plain[half:])...),
		"zstd":                       zstdOf(t, plain),
		"zstd in frames":             append(zstdOf(t, plain[:half]), zstdOf(t, plain[half:])...),
		"zstd, skippable first":      append(skippable(t, garbage), zstdOf(t, plain)...),
		"zstd, skippable everywhere": slices.Concat(skippable(t, nil), zstdOf(t, plain[:half]), skippable(t, garbage), zstdOf(t, plain[half:]), skippable(t, garbage)),
		"zstd, a large window":       zstdOf(t, plain, zstd.WithWindowSize(32<<20), zstd.WithSingleSegment(false)),
		"global header":              append(slices.Clone(global[:len(global)-1024]), plain...),
		"devices":                    archivetest.Tar(t, dir("etc"), archivetest.File{Name: "etc/a", Type: tar.TypeChar}, link("bin", "usr/bin")),
	}
	if packed, err := bzip2Of(plain); err == nil {
		forms["bzip2"] = packed
	} else {
		t.Logf("bzip2 was not tried: %v", err)
	}
	for name, data := range forms {
		pieces := iotest.OneByteReader(bytes.NewReader(data))
		if len(data) > len(noise) {
			pieces = &inPieces{bytes.NewReader(data)}
		}
		for _, r := range []io.Reader{bytes.NewReader(data), pieces, iotest.DataErrReader(bytes.NewReader(data))} {
			counted := &counting{r: r}
			x, err := Read(t.Context(), counted)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			want(t, x, "link bin usr/bin", "dir etc", "other etc/a")
			if counted.n != len(data) {
				t.Errorf("%s: %d of %d bytes were read, so its digest is not known", name, counted.n, len(data))
			}
		}
	}
	for name, data := range map[string][]byte{"no bytes": nil, "empty": archivetest.Gzip(t, nil), "end alone": make([]byte, 1024), "named like bzip2": archivetest.Tar(t)} {
		if x, err := Read(t.Context(), bytes.NewReader(data)); err != nil || x.Len() != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if x, err := Read(t.Context(), bytes.NewReader(archivetest.Tar(t, file("BZh91AY")))); err != nil || x.Len() != 1 {
		t.Errorf("a file that is named like bzip2 begins: %v", err)
	}
}

func bzip2Of(data []byte) ([]byte, error) {
	cmd := exec.Command("python3", "-c", "import bz2,sys; sys.stdout.buffer.write(bz2.compress(sys.stdin.buffer.read()))")
	cmd.Stdin = bytes.NewReader(data)
	return cmd.Output()
}

// inPieces reads few bytes at a time, an odd number.
type inPieces struct{ r io.Reader }

func (p *inPieces) Read(b []byte) (int, error) { return p.r.Read(b[:min(len(b), 61)]) }

type counting struct {
	r io.Reader
	n int
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

// endless yields a plain archive of empty files without end.
type endless struct {
	n    int
	name func(i int) string
	b    bytes.Buffer
}

func (e *endless) Read(p []byte) (int, error) {
	if e.b.Len() == 0 {
		if err := tar.NewWriter(&e.b).WriteHeader(&tar.Header{Name: e.name(e.n)}); err != nil {
			return 0, err
		}
		e.n++
	}
	return e.b.Read(p)
}

// TestBounds: a layer over a bound is refused with the bound's name, and what it cost is
// given back.
func TestBounds(t *testing.T) {
	broken := errors.New("the connection broke")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	limited := func(limits budget.Limits) context.Context {
		return budget.With(t.Context(), budget.NewLedger(limits).Open("a"))
	}
	plain := archivetest.Tar(t, dir("etc"), file("etc/a"))
	wide, err := (&zstd.Header{WindowSize: 64 << 20}).AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	wide = append(wide, zstdOf(t, plain)...)
	long := archivetest.Tar(t, file("a"+strings.Repeat("/long", 1000)))
	for name, test := range map[string]struct {
		ctx  context.Context
		r    io.Reader
		says string
		is   error // or *Error
	}{
		"memory":         {limited(budget.Limits{budget.Memory: {Client: 3 << 20}}), &endless{name: func(i int) string { return fmt.Sprintf("%x", i*0x1e3779b97f4a7c15) }}, "limits.memory", new(budget.Exceeded)},
		"unpacked":       {limited(budget.Limits{budget.Unpacked: {Request: 8 << 20}}), bytes.NewReader(archivetest.Layer(t, archivetest.File{Name: "zeros", Text: string(make([]byte, 9<<20))})), "limits.unpacked", new(budget.Exceeded)},
		"window":         {t.Context(), bytes.NewReader(wide), "window", nil},
		"a long name":    {t.Context(), bytes.NewReader(long), "more than 4095 bytes", nil},
		"no archive":     {t.Context(), strings.NewReader(strings.Repeat("<html>", 1000)), "is not a tar archive, plain or compressed with gzip, zstd or bzip2", nil},
		"cut off":        {t.Context(), bytes.NewReader(plain[:700]), "is cut off", nil},
		"gzip cut off":   {t.Context(), bytes.NewReader(archivetest.Gzip(t, plain)[:60]), "is cut off", nil},
		"broken":         {t.Context(), io.MultiReader(bytes.NewReader(plain[:700]), iotest.ErrReader(broken)), "the connection broke", broken},
		"broken behind":  {t.Context(), io.MultiReader(bytes.NewReader(plain), iotest.ErrReader(broken)), "the connection broke", broken},
		"at once":        {t.Context(), iotest.ErrReader(broken), "the connection broke", broken},
		"canceled":       {ended, bytes.NewReader(plain), "canceled", context.Canceled},
		"damaged, later": {t.Context(), bytes.NewReader(slices.Concat(plain[:512], bytes.Repeat([]byte("x"), 2048))), "is not a valid archive", nil},
	} {
		t.Run(name, func(t *testing.T) {
			x, err := Read(test.ctx, test.r)
			if err == nil {
				t.Fatalf("it was read: %d entries", x.Len())
			}
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %v, want %q", err, test.says)
			}
			_, ours := errors.AsType[*Error](err)
			_, refused := errors.AsType[*budget.Exceeded](err)
			if _, want := test.is.(*budget.Exceeded); want != refused || ours != (test.is == nil) || !want && test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("error %#v", err)
			}
		})
	}
}

// TestMost: the bounds of entries and names are told by their numbers.
func TestMost(t *testing.T) {
	for name, test := range map[string]struct {
		name string
		r    row
		each int64 // bytes of the names
		says string
	}{
		"entries": {"a", row{kind: Other}, 1, "more than 1000000 entries"},
		"names":   {"x" + strings.Repeat("/x", 1999), row{kind: Other}, 3999, "more than 134217728 bytes of names"},
		"targets": {"a", row{kind: Link, target: strings.Repeat("x", 3999)}, 4000, "more than 134217728 bytes of names"},
	} {
		b, err := newBuilder(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		const room = 100
		if name == "entries" {
			b.order = maxEntries - room
		} else {
			b.names = maxNames - room*test.each
		}
		n := 0
		for ; err == nil && n < 2*room; n++ {
			err = b.add(test.name, test.r, attributes{})
		}
		if _, ours := errors.AsType[*Error](err); !ours || !strings.Contains(err.Error(), test.says) || n != room+1 {
			t.Errorf("%s: %d entries, where %d have room: %v", name, n, room, err)
		}
		b.release()
	}
}
