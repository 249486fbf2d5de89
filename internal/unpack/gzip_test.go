package unpack

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func gzipped(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, text); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestGzip: members follow each other, with zeros between and behind them.
func TestGzip(t *testing.T) {
	a, b, empty := gzipped(t, "first"), gzipped(t, strings.Repeat("second", 100_000)), gzipped(t, "")
	zeros := func(n int) []byte { return make([]byte, n) }
	for name, test := range map[string]struct {
		parts [][]byte
		want  string // "" for an error
	}{
		"one":                  {[][]byte{a}, "first"},
		"two":                  {[][]byte{a, b}, "first" + strings.Repeat("second", 100_000)},
		"an empty one between": {[][]byte{a, empty, a}, "firstfirst"},
		"a zero":               {[][]byte{a, zeros(1)}, "first"},
		"a block of zeros":     {[][]byte{b, zeros(10_240)}, strings.Repeat("second", 100_000)},
		"many zeros":           {[][]byte{a, zeros(1 << 20)}, "first"},
		"zeros between":        {[][]byte{a, zeros(512), a, zeros(3)}, "firstfirst"},
		"text behind":          {[][]byte{a, []byte("text")}, ""},
		"text behind zeros":    {[][]byte{a, zeros(5), []byte("x")}, ""},
		"half a member":        {[][]byte{a, a[:9]}, ""},
		"cut off":              {[][]byte{b[:len(b)-9]}, ""},
		"a wrong checksum":     {[][]byte{a[:len(a)-8], zeros(8)}, ""},
	} {
		data := bytes.Join(test.parts, nil)
		for kind, r := range map[string]io.Reader{"buffered": bufio.NewReaderSize(bytes.NewReader(data), 16), "plain": bytes.NewReader(data), "bytes": iotest.OneByteReader(bytes.NewReader(data))} {
			z, err := Gzip(r)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(z)
			if test.want == "" && err == nil || test.want != "" && (err != nil || string(got) != test.want) {
				t.Errorf("%s, %s: %d bytes, %v", name, kind, len(got), err)
			}
		}
	}
}

// TestIsZstd: all sixteen kinds of skippable frames are known, frames, and nothing else.
func TestIsZstd(t *testing.T) {
	n := 0
	for first := range 256 {
		if IsZstd([]byte{byte(first), 0x2a, 0x4d, 0x18}) {
			n++
		}
	}
	if !IsZstd([]byte("\x28\xb5\x2f\xfd\x00")) || IsZstd([]byte("\x28\xb5\x2f")) {
		t.Error("frames are not known by their first bytes")
	}
	if n != 16 || IsZstd([]byte{0x50, 0x2a, 0x4d}) || IsZstd([]byte("P*M\x19")) {
		t.Errorf("%d kinds", n)
	}
}
