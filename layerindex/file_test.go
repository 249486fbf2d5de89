package layerindex

import (
	"archive/tar"
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/waveproxy/waveproxy/augment/archivetest"
	"github.com/waveproxy/waveproxy/budget"
)

// TestFiles: the last regular file of a name counts, in any compression; what is no file
// is not there.
func TestFiles(t *testing.T) {
	plain := archivetest.Tar(t,
		archivetest.File{Name: "/etc/a", Text: "first"}, archivetest.File{Name: "./etc/a", Text: "second", Mode: 0o640},
		archivetest.File{Name: "etc/b", Text: "file"}, archivetest.File{Name: "etc/b", Type: tar.TypeSymlink, Link: "a"},
		archivetest.File{Name: "etc/c", Type: tar.TypeLink, Link: "./etc/a"}, archivetest.File{Name: "etc/d", Type: tar.TypeDir}, archivetest.File{Name: "etc/e"})
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"plain": plain, "gzip": archivetest.Gzip(t, plain), "zstd": z.EncodeAll(plain, nil)} {
		files, err := Files(t.Context(), bytes.NewReader(data), []string{"etc/a", "etc/b", "etc/c", "etc/d", "etc/e", "etc/none"})
		if err != nil || len(files) != 3 || string(files["etc/a"].Data) != "second" || files["etc/a"].Mode != 0o640 || files["etc/c"].Link != "etc/a" || files["etc/e"].Data == nil {
			t.Errorf("%s: %+v, %v", name, files, err)
		}
	}
	for name, data := range map[string][]byte{
		"cut":   archivetest.Gzip(t, plain)[:60],
		"large": archivetest.Tar(t, archivetest.File{Name: "etc/a", Text: strings.Repeat("x", MaxFile+1)}),
		"text":  []byte(strings.Repeat("no archive", 100)),
	} {
		files, err := Files(t.Context(), bytes.NewReader(data), []string{"etc/a"})
		if _, ok := errors.AsType[*Error](err); !ok || files != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Files(t.Context(), bytes.NewReader(archivetest.Tar(t, archivetest.File{Name: "x", Text: strings.Repeat("x", MaxFile+1)})), []string{"y"}); err != nil {
		t.Errorf("another file is large: %v", err)
	}
	ledger := budget.NewLedger(budget.Limits{budget.Memory: {Request: 100 << 10, All: 1 << 30}})
	large := archivetest.Tar(t, archivetest.File{Name: "a", Text: strings.Repeat("x", 1<<20)})
	_, err = Files(budget.With(t.Context(), ledger.Open("a")), bytes.NewReader(large), []string{"a"})
	if _, ok := errors.AsType[*budget.Exceeded](err); !ok || ledger.Held(budget.Memory) != 0 {
		t.Errorf("beyond the budget: %v, and %d bytes are held", err, ledger.Held(budget.Memory))
	}
}
