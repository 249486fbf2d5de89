package attack

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/integration/harness"
)

// sparseFile returns the tar entry of a file of size bytes in GNU's old sparse form: a
// hole up to its last 512 bytes.
func sparseFile(t *testing.T, name string, size int64) []byte {
	t.Helper()
	entry := tarOf(t, tar.Header{Name: name, Typeflag: tar.TypeReg, Size: 512, Format: tar.FormatGNU})[:512]
	number := func(n int64) []byte { return binary.BigEndian.AppendUint64([]byte{0x80, 0, 0, 0}, uint64(n)) }
	entry[156] = tar.TypeGNUSparse
	copy(entry[386:], slices.Concat(number(size-512), number(512)))
	copy(entry[483:], number(size))
	copy(entry[148:156], "        ")
	sum := 0
	for _, b := range entry {
		sum += int(b)
	}
	copy(entry[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return append(entry, make([]byte, 512)...)
}

// TestAttackRewrites submits small layers that are costly to rewrite, for a base whose
// bin is a link.
func TestAttackRewrites(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	plain := tarOf(t, tar.Header{Name: "bin", Typeflag: tar.TypeSymlink, Linkname: "usr/bin"})
	archive := gzipped(t, 1, plain)
	config := fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[%q]}}`, harness.Sum(plain))
	h.on("linked", tinyImage{config, manifestOf(t, described{configType, harness.Sum(config), len(config), nil},
		described{layerType, harness.Sum(archive), len(archive), nil}), harness.Layer{Archive: archive}}.ServeHTTP)
	moved := tarOf(t, tar.Header{Name: "bin/x", Typeflag: tar.TypeReg})[:512]
	var names bytes.Buffer
	w := tar.NewWriter(&names)
	for i := range 60_000 {
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("%d/%s", i, strings.Repeat("directory/", 250)+"x"), Typeflag: tar.TypeReg, Format: tar.FormatGNU}); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		layer  []byte
		status int
		says   string
	}{
		"holes of 6 GiB": {slices.Concat(moved, sparseFile(t, "hole", 6<<30), make([]byte, 1024)), http.StatusBadRequest, "holes"},
		// Its index alone would take more memory than a request may have.
		"long names": {slices.Concat(moved, names.Bytes(), make([]byte, 1024)), http.StatusRequestEntityTooLarge, "limits.memory"},
	} {
		t.Run(name, func(t *testing.T) {
			p, pid := impatient(t, h.settings())
			r := wantAnswered(t, p, pid, string(harness.MustJSON(t, map[string]any{
				"containerImage": h.host() + "/linked:x", "containerConfig": harness.Config{Layers: []harness.Layer{{Location: inlined(gzipped(t, 1, test.layer))}}},
			})), 3*patience, 256)
			if r.Status != test.status {
				t.Errorf("BREACH: status %d, want %d: %.300s", r.Status, test.status, r.Body)
			}
			harness.WantMessage(t, r.Body, "", test.says)
			wantAlive(t, p, h.host()+"/good:x")
		})
	}
}
