package clients

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// TestLargeBodies: the server accepts the largest bundles that clients send, and
// the configured limit holds to the byte.
func TestLargeBodies(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))

	t.Run("13 MiB", func(t *testing.T) {
		noise := make([]byte, 10<<20) // random, so that no compression makes it smaller
		rand.NewChaCha8([32]byte{}).Read(noise)
		layer := harness.LayerOf(t, harness.File{Name: "opt/noise", Mode: 0o644, Text: string(noise)})
		body := harness.NextflowRequest(t, map[string]any{
			"containerImage": "busybox:oci", "containerConfig": harness.NextflowConfig(harness.Config{Layers: []harness.Layer{layer}}),
		})
		if layer.GzipSize < 10<<20 || len(body) < 13<<20 {
			t.Fatalf("a layer of %d bytes in a body of %d is too small for this test", layer.GzipSize, len(body))
		}
		a := p.Augment(t, body)
		harness.Verify(t, a.TargetImage)
		if got := harness.Files(t, harness.Pull(t, a.TargetImage, "amd64"))["opt/noise"]; got != harness.Sum(noise) {
			t.Errorf("the file in the image is %.100q", got)
		}
	})

	const limit = 32 << 20
	for name, test := range map[string]struct{ size, status int }{
		"as large as allowed": {limit, http.StatusOK},
		"one byte more":       {limit + 1, http.StatusRequestEntityTooLarge},
		"33 MiB":              {33 << 20, http.StatusRequestEntityTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			body := `{"containerImage": "busybox:oci", "padding": "`
			body += strings.Repeat("x", test.size-len(body)-2) + `"}`
			a := p.Submit(t, body)
			if a.Status != test.status {
				t.Errorf("status %d, want %d: %s", a.Status, test.status, a.Raw)
			}
			if test.status != http.StatusOK {
				harness.WantMessage(t, a.Raw, fmt.Sprint(limit), "api.max_body")
			}
		})
	}
}

// TestWrongLayers: a layer that differs from the request is refused, in whichever
// way it is given. The message has the expected and the found value.
func TestWrongLayers(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	layer := harness.LayerOf(t, harness.File{Name: "opt/tool", Mode: 0o755, Text: "#!/bin/sh\n"})
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(layer.Archive) }))
	defer origin.Close()
	p := harness.StartProxy(t, "", map[string]string{"WAVEPROXY_REGISTRIES": fmt.Sprintf(`{docker.io: {url: %q}, %q: {plain_http: true}}`,
		reg.URL, strings.TrimPrefix(origin.URL, "http://"))})

	var deflated bytes.Buffer
	z := zlib.NewWriter(&deflated)
	_, _ = z.Write(layer.Archive) // a buffer takes everything
	_ = z.Close()
	zlibbed, remote, blob := layer, layer, harness.BlobOf(t, reg, "library/busybox:oci")
	zlibbed.Location = "gzip:" + base64.StdEncoding.EncodeToString(deflated.Bytes())
	remote.Location = origin.URL + "/tool.tar.gz"
	zeros := "sha256:" + strings.Repeat("0", 64)
	for from, right := range map[string]harness.Layer{"data": layer, "gzip": zlibbed, "http": remote, "docker": blob} {
		digest, size, tar := right, right, right
		digest.GzipDigest, size.GzipSize, tar.TarDigest = zeros, right.GzipSize+1, zeros
		for _, test := range []struct {
			member          string
			layer           harness.Layer
			expected, found any
		}{
			{"gzipDigest", digest, zeros, right.GzipDigest},
			{"gzipSize", size, right.GzipSize + 1, right.GzipSize},
			{"tarDigest", tar, zeros, right.TarDigest},
		} {
			t.Run(from+" "+test.member, func(t *testing.T) {
				before := harness.Stored(t, p.Dir)
				// The first layer is good, but the refusal keeps neither.
				a := p.Submit(t, harness.Request{ContainerImage: "busybox:oci", ContainerConfig: &harness.Config{
					Layers: []harness.Layer{harness.LayerOf(t, harness.File{Name: "good", Text: from + test.member}), test.layer},
				}})
				if a.Status != http.StatusBadRequest {
					t.Errorf("status %d, want 400", a.Status)
				}
				harness.WantMessage(t, a.Raw, "containerConfig.layers[1]", test.member, fmt.Sprintf("expected %v, found %v", test.expected, test.found))
				if after := harness.Stored(t, p.Dir); after != before {
					t.Errorf("it stored something:\n%s", after)
				}
			})
		}
	}
	// The control: each way to give a layer works with the right layer.
	for from, right := range map[string]harness.Layer{"data": layer, "gzip": zlibbed, "http": remote, "docker": blob} {
		a := p.Submit(t, harness.Request{ContainerImage: "busybox:oci", ContainerConfig: &harness.Config{Layers: []harness.Layer{right}}})
		if a.Status != http.StatusOK {
			t.Errorf("%s: %s", from, a.Raw)
		}
	}
}
