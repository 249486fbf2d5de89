package assemble

import (
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/augment"
)

// TestLayerRecordsWithRoots: records of versions that noted roots are read, and are not taken for
// damaged.
func TestLayerRecordsWithRoots(t *testing.T) {
	d := digest.FromString("x")
	for name, layer := range map[string]string{
		"one root":   `"digest":"` + d.String() + `","size":3,"diffID":"` + d.String() + `","roots":["bin"]`,
		"location":   `"digest":"` + d.String() + `","size":3,"diffID":"` + d.String() + `","platform":"linux/amd64","roots":["bin","usr/sbin"],"location":"https://h/x","via":["https://i"]`,
		"no roots":   `"digest":"` + d.String() + `","size":3,"diffID":"` + d.String() + `","location":"https://h/x?a=b\u0026c"`,
		"no members": `"digest":"` + d.String() + `","size":0,"diffID":"` + d.String() + `"`,
	} {
		sum := digest.FromString("{" + layer + "}")
		record := `{` + layer + `,"sum":"` + sum.String() + `","redirects":true}`
		got, redirects, err := decodeLayer([]byte(record))
		if err != nil || !redirects || got.Digest != d {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		again, err := encodeLayer(got)
		if err != nil || strings.Contains(string(again), "roots") {
			t.Errorf("%s: written anew as %s, %v", name, again, err)
		}
		if _, _, err := decodeLayer([]byte(strings.Replace(record, `"size":`, `"size":1`, 1))); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a wrong size is taken: %v", name, err)
		}
	}
	var l augment.Layer
	if err := json.Unmarshal([]byte(`{"digest":"`+d.String()+`","roots":["bin"]}`), &l); err != nil || l.Digest != d {
		t.Errorf("%+v, %v", l, err)
	}
}
