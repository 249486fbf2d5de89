package augment

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/internal/unpack"
	"github.com/waveproxy/waveproxy/layerindex"
)

// manyRecords is an archive of a file with n records in its extended header.
func manyRecords(n int, prefix string) []byte {
	records := map[string]string{}
	for i := range n {
		records[fmt.Sprintf("%s%04x", prefix, i)] = strings.Repeat("v", i%2)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "bin/a", Typeflag: tar.TypeReg, Size: 1 << 20, PAXRecords: records, Format: tar.FormatPAX}); err != nil {
		panic(err)
	}
	if _, err := w.Write(make([]byte, 1<<20)); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// TestHeadersAreCharged: what the header of an entry keeps in memory is charged while the
// file is read, wherever archives are read.
func TestHeadersAreCharged(t *testing.T) {
	for name, plain := range map[string][]byte{
		"map of GNU":          sparse(1<<20, 512),
		"map of PAX":          paxSparse(1 << 20),
		"records":             manyRecords(30_000, "g"),
		"extended attributes": manyRecords(30_000, "SCHILY.xattr.user."),
	} {
		m := newMemory()
		data := gzipOf(plain)
		layer := m.layer(data)
		for what, read := range map[string]func(l *budget.Ledger) error{
			"Inspect": func(l *budget.Ledger) error {
				_, err := Inspect(budget.With(t.Context(), l.Open("a")), bytes.NewReader(data), DefaultLimits)
				return err
			},
			"repack": func(l *budget.Ledger) error {
				_, err := repackOver(budget.With(t.Context(), l.Open("a")), m, []Layer{layer})
				return err
			},
			"index": func(l *budget.Ledger) error {
				_, err := layerindex.Read(budget.With(t.Context(), l.Open("a")), bytes.NewReader(data))
				return err
			},
		} {
			l := budget.NewLedger(budget.Limits{budget.Memory: {Client: 3 << 20}})
			err := read(l)
			if e, ok := errors.AsType[*budget.Exceeded](err); !ok || e.Kind != budget.Memory {
				t.Errorf("%s of %s, where 3 MiB may be held: %v", what, name, err)
			}
			if held := l.Held(budget.Memory); held != 0 {
				t.Errorf("%s of %s: %d bytes are held in the end", what, name, held)
			}
			l = budget.NewLedger(budget.Limits{budget.Memory: {Client: 16 << 20}})
			if err := read(l); err != nil || l.Held(budget.Memory) != 0 {
				t.Errorf("%s of %s, where 16 MiB may be held: %v, %d in the end", what, name, err, l.Held(budget.Memory))
			}
		}
	}
}

// TestSmallHeadersAreFree: ordinary headers cost nothing.
func TestSmallHeadersAreFree(t *testing.T) { inOneTurn(t, testSmallHeadersAreFree) }

func testSmallHeadersAreFree(t *testing.T) {
	l := budget.NewLedger(budget.Limits{budget.Memory: {Client: 1}})
	for name, data := range map[string][]byte{
		"plain": archive(file{name: "a", text: "x"}), "capabilities": gzipOf(manyRecords(8, "SCHILY.xattr.security.")), "long names": archive(file{name: strings.Repeat("a/", 200) + "a"}),
	} {
		if _, err := Inspect(budget.With(t.Context(), l.Open("a")), bytes.NewReader(data), DefaultLimits); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// firstRead notes how much was wanted of an archive first.
type firstRead struct {
	io.ReadSeeker
	want int
}

func (f *firstRead) Read(p []byte) (int, error) {
	if f.want == 0 {
		f.want = len(p)
	}
	return f.ReadSeeker.Read(p)
}

// TestWaitingIsCheap: an archive that waits for its turn has no buffers yet.
func TestWaitingIsCheap(t *testing.T) {
	for name, data := range map[string][]byte{"gzip": archive(file{name: "a"}), "plain": tarOf(file{name: "a"}), "zstd": zstdOf(t, tarOf(file{name: "a"}))} {
		r := &firstRead{ReadSeeker: bytes.NewReader(data)}
		if _, err := Inspect(t.Context(), r, DefaultLimits); err != nil || r.want > 16 {
			t.Errorf("%s: %d bytes are read before the turn, %v", name, r.want, err)
		}
		r = &firstRead{ReadSeeker: bytes.NewReader(data)}
		out, err := unpackFrom(unpack.New(t.Context()), r)
		if err != nil || r.want > 16 {
			t.Errorf("%s: %d bytes are read before the turn, %v", name, r.want, err)
		}
		out.Close()
	}
}
