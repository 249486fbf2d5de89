// Package archivetest writes the archives that tests take for layers. It shares no
// code with the packages under test.
package archivetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"testing"
)

// File is an entry of an archive: a regular file, unless Type says otherwise.
type File struct {
	Name, Text string
	Mode       int64             // 0 stays 0
	Type       byte              // a flag of archive/tar; 0 is tar.TypeReg
	Link       string            // of links
	PAX        map[string]string // of extended headers
}

// Tar returns an uncompressed archive of the files, in this order.
func Tar(t testing.TB, files ...File) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.Name, Linkname: f.Link, Typeflag: f.Type, Mode: f.Mode, Size: int64(len(f.Text)), PAXRecords: f.PAX}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.Text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Gzip returns data as gzip.
func Gzip(t testing.TB, data []byte) []byte { return compress(t, data, gzip.DefaultCompression) }

// Stored returns data as gzip without compression, so that the result is at least
// as long as data.
func Stored(t testing.TB, data []byte) []byte { return compress(t, data, gzip.NoCompression) }

func compress(t testing.TB, data []byte, level int) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Layer returns a gzip-compressed archive of the files.
func Layer(t testing.TB, files ...File) []byte {
	t.Helper()
	return Gzip(t, Tar(t, files...))
}
