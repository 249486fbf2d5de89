package containerconfig

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/blobstore"
)

// calls lists the calls of Layers.
type calls []string

func (c *calls) Inline(_ context.Context, _ blobstore.Store, r io.Reader, want assemble.Expected) (augment.Layer, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return augment.Layer{}, err
	}
	*c = append(*c, "inline "+string(data))
	return augment.Layer{Size: want.Size}, nil
}

func (c *calls) Remote(_ context.Context, url string, want assemble.Expected) (augment.Layer, error) {
	*c = append(*c, "remote "+url)
	return augment.Layer{Size: want.Size}, nil
}

func (c *calls) Image(_ context.Context, identity, location string, want assemble.Expected) (augment.Layer, error) {
	*c = append(*c, "image "+identity+" "+location)
	return augment.Layer{Size: want.Size}, nil
}

func gzipLocation(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return "gzip:" + base64.StdEncoding.EncodeToString(b.Bytes())
}

func TestTake(t *testing.T) {
	for name, test := range map[string]struct {
		layer Layer
		call  string
		fails string
	}{
		"data":         {Layer{Location: "data:bGF5ZXI="}, "inline layer", ""},
		"gzip":         {Layer{Location: gzipLocation(t, "layer")}, "inline layer", ""},
		"largest":      {Layer{Location: gzipLocation(t, strings.Repeat("x", 8))}, "inline xxxxxxxx", ""},
		"URL":          {Layer{Location: "https://h/l.tar.gz"}, "remote https://h/l.tar.gz", ""},
		"image":        {Layer{Location: "docker://h/v2/a/blobs/sha256:0"}, "image user docker://h/v2/a/blobs/sha256:0", ""},
		"too large":    {Layer{Location: gzipLocation(t, strings.Repeat("x", 9))}, "", "the layers in the request unpack to more than 8 bytes together"},
		"cut base64":   {Layer{Location: "data:bGF5ZX"}, "", "layer location is not valid base64"},
		"more base64":  {Layer{Location: "data:bGE=bGE="}, "", "layer location is not valid base64"},
		"lines":        {Layer{Location: "data:bGF5\r\nZXI=\n"}, "inline layer", ""},
		"bad in zlib":  {Layer{Location: gzipLocation(t, "layer")[:9] + "!"}, "", "layer location is not valid base64"},
		"cut zlib":     {Layer{Location: gzipLocation(t, "layer")[:13]}, "", "layer location is not a valid zlib stream"},
		"no base64":    {Layer{Location: "data:!"}, "", "layer location is not valid base64"},
		"no zlib":      {Layer{Location: "gzip:AAAA"}, "", "layer location is not a zlib stream"},
		"a file":       {Layer{Location: "file:/etc/passwd"}, "", `location "file:/etc/passwd": want data:`},
		"no scheme":    {Layer{Location: "/etc/passwd"}, "", `location "/etc/passwd": want data:`},
		"wrong digest": {Layer{Location: "data:", GzipDigest: "md5:1"}, "", `layer.gzipDigest "md5:1": want sha256:`},
		"wrong diffID": {Layer{Location: "data:", TarDigest: "sha256:1"}, "", `layer.tarDigest "sha256:1": want sha256:`},
	} {
		t.Run(name, func(t *testing.T) {
			var c calls
			test.layer.GzipSize = 7
			got, err := (&Taker{Layers: &c, MaxInline: 8}).Take(t.Context(), "user", test.layer)
			if test.fails != "" {
				if err == nil || !strings.HasPrefix(err.Error(), test.fails) || c != nil {
					t.Errorf("error %v after %q, want %s", err, c, test.fails)
				}
				return
			}
			if diff := cmp.Diff(calls{test.call}, c); diff != "" || err != nil || got.Size != 7 {
				t.Errorf("%+v, error %v (-want +got):\n%s", got, err, diff)
			}
		})
	}
}

// TestOf: a recipe's wire form has no layer's content.
func TestOf(t *testing.T) {
	if Of(augment.Recipe{}) != nil {
		t.Error("an empty recipe has a wire form")
	}
	recipe := augment.Recipe{Env: []string{"A=1"}, Layers: []augment.Layer{{Digest: "d", Size: 2, DiffID: "i", Location: "https://h/l"}, {}}}
	want := &Config{Env: []string{"A=1"}, Layers: []Layer{{Location: "https://h/l", GzipDigest: "d", GzipSize: 2, TarDigest: "i"}, {Location: "data:DATA+OMITTED"}}}
	if diff := cmp.Diff(want, Of(recipe)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
