package augment

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

// TestDirectoryNamedAgain: a directory that has an entry after something below it is
// written once, before what is below it, with the attributes of its last entry.
func TestDirectoryNamedAgain(t *testing.T) {
	mode := func(name string, mode int64) file { return file{name: name, kind: tar.TypeDir, mode: mode} }
	for name, test := range map[string]struct {
		layers [][]file
		want   []string
	}{
		"in a layer":      {[][]file{{mode("d/", 0o700), {name: "d/a"}, mode("d/", 0o711)}}, []string{"d/ 711", "d/a 0"}},
		"three times":     {[][]file{{mode("d/", 0o700), {name: "d/a"}, mode("d/", 0o711), {name: "d/b"}, mode("d/", 0o755)}}, []string{"d/ 755", "d/a 0", "d/b 0"}},
		"nothing below":   {[][]file{{mode("d/", 0o700), {name: "e"}, mode("d/", 0o711)}}, []string{"e 0", "d/ 711"}},
		"of two layers":   {[][]file{{mode("d/", 0o700), {name: "d/a"}}, {mode("d/", 0o711), {name: "d/b"}}}, []string{"d/ 711", "d/a 0", "d/b 0"}},
		"deep":            {[][]file{{mode("d/", 0o700), mode("d/e/", 0o700), {name: "d/e/f/a"}}, {mode("d/e/", 0o711), mode("d/", 0o755)}}, []string{"d/ 755", "d/e/ 711", "d/e/f/a 0"}},
		"then a file":     {[][]file{{mode("d/", 0o700), {name: "d/a"}, mode("d/", 0o711)}, {{name: "d"}}}, []string{"d 0"}},
		"removed":         {[][]file{{mode("d/", 0o700), {name: "d/a"}, mode("d/", 0o711)}, {{name: ".wh.d"}}}, []string{".wh.d 0"}},
		"hidden, anew":    {[][]file{{mode("p/", 0o755), mode("p/d/", 0o700), {name: "p/d/a"}}, {{name: "p/.wh..wh..opq"}, mode("p/d/", 0o711), {name: "p/d/b"}}}, []string{"p/ 755", "p/.wh..wh..opq 0", "p/d/ 711", "p/d/b 0"}},
		"anew, hidden":    {[][]file{{mode("p/", 0o755), mode("p/d/", 0o700), {name: "p/d/a"}}, {mode("p/d/", 0o711), {name: "p/d/b"}, {name: "p/.wh..wh..opq"}}}, []string{"p/ 755", "p/d/ 711", "p/d/b 0", "p/.wh..wh..opq 0"}},
		"a file, then it": {[][]file{{mode("d/", 0o700), {name: "d/a"}}, {{name: "d"}}, {mode("d/", 0o711), {name: "d/b"}}}, []string{"d/ 711", "d/b 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			var layers []Layer
			for _, files := range test.layers {
				layers = append(layers, m.layer(archive(files...)))
			}
			got, err := repackOver(t.Context(), m, layers)
			if err != nil {
				t.Fatal(err)
			}
			z, err := gzip.NewReader(bytes.NewReader(m.archives[got.Digest]))
			if err != nil {
				t.Fatal(err)
			}
			var entries []string
			for r := tar.NewReader(z); ; {
				h, err := r.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				entries = append(entries, fmt.Sprintf("%s %o", h.Name, h.Mode))
			}
			if !slices.Equal(entries, test.want) {
				t.Errorf("entries: %s; want %s", strings.Join(entries, ", "), strings.Join(test.want, ", "))
			}
		})
	}
}
