package augment

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"
)

// TestOddArchives: old and rare forms of tar are taken as engines take them, and the
// result of rewriting has what they say.
func TestOddArchives(t *testing.T) {
	v7 := tarOf(file{name: "bin/old", text: "v7"})
	clear(v7[257:512]) // neither magic nor what came after v7
	v7[156] = 0
	v7dir := tarOf(file{name: "bin/subs"})
	clear(v7dir[257:512])
	v7dir[7], v7dir[156] = '/', 0
	for name, test := range map[string]struct {
		data []byte
		want string
	}{
		"v7":                {withChecksum(v7), "usr/bin/old"},
		"v7, a directory":   {withChecksum(v7dir), "usr/bin/sub/"},
		"GNU, long name":    {gnuOf(t, "bin/"+strings.Repeat("g", 300)), "usr/bin/" + strings.Repeat("g", 300)},
		"PAX, other vendor": {tarOf(file{name: "bin/p", pax: map[string]string{"LIBARCHIVE.creationtime": "1.5", "ACME.odd": "x"}}), "usr/bin/p"},
	} {
		m := newMemory()
		got, err := repackOver(t.Context(), m, []Layer{m.layer(gzipOf(test.data))}, []file{link("bin", "usr/bin"), dir("usr/bin/")})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if _, ok := m.unpacked(t, got)[test.want]; !ok {
			t.Errorf("%s: %v", name, m.unpacked(t, got))
		}
	}
}

func gnuOf(t *testing.T, name string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Format: tar.FormatGNU}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
