package integration

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

	"github.com/waveproxy/waveproxy/integration/upstream"
)

// TestLargeBodies: the largest bundles that clients send are taken, and the
// limit is where the configuration has it, to the byte.
func TestLargeBodies(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	p := startProxy(t, "", hub(reg.URL))

	t.Run("13 MiB", func(t *testing.T) {
		noise := make([]byte, 10<<20) // which no compression makes smaller
		rand.NewChaCha8([32]byte{}).Read(noise)
		layer := layerOf(t, file{name: "opt/noise", mode: 0o644, text: string(noise)})
		body := nextflowRequest(t, map[string]any{
			"containerImage": "busybox:oci", "containerConfig": nextflowConfig(config{Layers: []testLayer{layer}}),
		})
		if layer.GzipSize < 10<<20 || len(body) < 13<<20 {
			t.Fatalf("a layer of %d bytes in a body of %d is too small for this test", layer.GzipSize, len(body))
		}
		a := p.augment(t, body)
		check(t, a.TargetImage)
		if got := tree(t, pull(t, a.TargetImage, "amd64"))["opt/noise"]; got != sum(noise) {
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
			a := p.submit(t, body)
			if a.status != test.status {
				t.Errorf("status %d, want %d: %s", a.status, test.status, a.raw)
			}
			if test.status != http.StatusOK {
				wantMessage(t, a.raw, fmt.Sprint(limit), "api.max_body")
			}
		})
	}
}

// TestWrongLayers: a layer that is not what the request says is refused with
// what was expected and what was found, whichever way the layer comes.
func TestWrongLayers(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	layer := layerOf(t, file{name: "opt/tool", mode: 0o755, text: "#!/bin/sh\n"})
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(layer.archive) }))
	defer origin.Close()
	p := startProxy(t, "", map[string]string{"WAVEPROXY_REGISTRIES": fmt.Sprintf(`{docker.io: {url: %q}, %q: {plain_http: true}}`,
		reg.URL, strings.TrimPrefix(origin.URL, "http://"))})

	var deflated bytes.Buffer
	z := zlib.NewWriter(&deflated)
	_, _ = z.Write(layer.archive) // a buffer takes everything
	_ = z.Close()
	zlibbed, remote, blob := layer, layer, blobOf(t, reg, "library/busybox:oci")
	zlibbed.Location = "gzip:" + base64.StdEncoding.EncodeToString(deflated.Bytes())
	remote.Location = origin.URL + "/tool.tar.gz"
	zeros := "sha256:" + strings.Repeat("0", 64)
	for from, right := range map[string]testLayer{"data": layer, "gzip": zlibbed, "http": remote, "docker": blob} {
		digest, size, tar := right, right, right
		digest.GzipDigest, size.GzipSize, tar.TarDigest = zeros, right.GzipSize+1, zeros
		for _, test := range []struct {
			member          string
			layer           testLayer
			expected, found any
		}{
			{"gzipDigest", digest, zeros, right.GzipDigest},
			{"gzipSize", size, right.GzipSize + 1, right.GzipSize},
			{"tarDigest", tar, zeros, right.TarDigest},
		} {
			t.Run(from+" "+test.member, func(t *testing.T) {
				before := stored(t, p.Dir)
				// The first layer is good, and not kept either.
				a := p.submit(t, request{ContainerImage: "busybox:oci", ContainerConfig: &config{
					Layers: []testLayer{layerOf(t, file{name: "good", text: from + test.member}), test.layer},
				}})
				if a.status != http.StatusBadRequest {
					t.Errorf("status %d, want 400", a.status)
				}
				wantMessage(t, a.raw, "containerConfig.layers[1]", test.member, fmt.Sprintf("expected %v, found %v", test.expected, test.found))
				if after := stored(t, p.Dir); after != before {
					t.Errorf("it stored something:\n%s", after)
				}
			})
		}
	}
	// What was wrong was not the way they came.
	for from, right := range map[string]testLayer{"data": layer, "gzip": zlibbed, "http": remote, "docker": blob} {
		a := p.submit(t, request{ContainerImage: "busybox:oci", ContainerConfig: &config{Layers: []testLayer{right}}})
		if a.status != http.StatusOK {
			t.Errorf("%s: %s", from, a.raw)
		}
	}
}

// blobOf is the last layer of an image as a request names it.
func blobOf(t *testing.T, reg *upstream.Server, image string) testLayer {
	t.Helper()
	img := pull(t, reg.Host+"/"+image, "amd64")
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	last, diffIDs := manifest.Layers[len(manifest.Layers)-1], mustConfig(t, img).RootFS.DiffIDs
	repository, _, _ := strings.Cut(image, ":")
	return testLayer{
		Location:   "docker://registry-1.docker.io/v2/" + repository + "/blobs/" + last.Digest.String(),
		GzipDigest: last.Digest.String(),
		GzipSize:   int(last.Size),
		TarDigest:  diffIDs[len(diffIDs)-1].String(),
	}
}
