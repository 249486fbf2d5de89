package augment

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"testing"

	"github.com/waveproxy/waveproxy/budget"
)

// paxSparse returns an archive of one file of size bytes, all of them a hole, in the form
// that GNU tar 1.3 writes.
func paxSparse(size int64) []byte {
	record := func(key, value string) string {
		n := len(key) + len(value) + 3
		n += len(strconv.Itoa(n))
		return fmt.Sprintf("%d %s=%s\n", n, key, value)
	}
	extended := record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") +
		record("GNU.sparse.name", "hole") + record("GNU.sparse.realsize", strconv.FormatInt(size, 10))
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range []struct{ name, text string }{{"x", extended}, {"GNUSparseFile.0/hole", "0\n" + string(make([]byte, 510))}} {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Typeflag: tar.TypeReg, Size: int64(len(f.text)), Format: tar.FormatUSTAR}); err != nil {
			panic(err)
		}
		if _, err := io.WriteString(w, f.text); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	data := b.Bytes()
	data[156] = tar.TypeXHeader
	return withChecksum(data)
}

// TestHoles: the holes of sparse files are charged like all that is unpacked, and layers
// with many are neither merged nor rewritten.
func TestHoles(t *testing.T) {
	for name, sparse := range map[string]func(size int64) []byte{
		"GNU": func(size int64) []byte { return sparse(size, 512) },
		"PAX": paxSparse,
	} {
		t.Run(name, func(t *testing.T) {
			l := budget.NewLedger(budget.Limits{budget.Unpacked: {Client: 1 << 20}})
			_, err := Inspect(budget.With(t.Context(), l.Open("a")), bytes.NewReader(gzipOf(sparse(80<<20))), DefaultLimits)
			if e, ok := errors.AsType[*budget.Exceeded](err); !ok || e.Kind != budget.Unpacked {
				t.Errorf("80 MiB of holes, where 1 MiB may be unpacked: %v", err)
			}
			m := newMemory()
			layers := []Layer{m.layer(gzipOf(sparse(1 << 20))), m.layer(archive(file{name: "a"}))}
			got, err := repackOver(t.Context(), m, layers)
			if err != nil || len(m.unpacked(t, got)["hole"]) != 1<<20 {
				t.Errorf("1 MiB of holes: %v", err)
			}
			p, err := planRepack(t.Context(), placeOn(t.Context(), m, nil, layers, nil))
			if err != nil {
				t.Fatal(err)
			}
			if p.holes != maxHoles {
				t.Errorf("%d bytes of holes may be filled", p.holes)
			}
			for most, refuses := range map[int64]bool{1 << 20: false, 1 << 19: true} {
				p.holes = most
				if err := p.write(t.Context(), io.Discard, io.Discard); refuses {
					refused(t, err, "holes")
				} else if err != nil {
					t.Errorf("1 MiB of holes, where %d bytes may be filled: %v", most, err)
				}
			}
		})
	}
}

// TestMergedSize: layers that are more than one layer may be are not merged.
func TestMergedSize(t *testing.T) {
	m := newMemory()
	layers := []Layer{m.layer(archive(file{name: "a", text: string(make([]byte, 6000))})), m.layer(archive(file{name: "b", text: string(make([]byte, 6000))}))}
	for limit, refuses := range map[int64]bool{10_000: true, 20_000: false} {
		p, err := planRepack(t.Context(), placeOn(t.Context(), m, nil, layers, nil))
		if err != nil {
			t.Fatal(err)
		}
		if p.limit != DefaultLimits.Bytes {
			t.Errorf("the result may have %d bytes", p.limit)
		}
		p.limit = limit
		if err := p.write(t.Context(), io.Discard, io.Discard); refuses {
			refused(t, err, "more than one layer may")
		} else if err != nil {
			t.Error(err)
		}
	}
}
