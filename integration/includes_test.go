package integration

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/waveproxy/waveproxy/integration/engine"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// TestIncludes lays the layers of other images over an image, in their order
// and with their own digests, and runs what they bring.
func TestIncludes(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:multi")
	own := layerOf(t, file{name: "opt/tools/which", mode: 0o644, text: "the request's"})
	bottom := layerOf(t, file{name: "opt/tools/run", mode: 0o755, text: "#!/bin/sh\ncat /opt/tools/which\n"}, file{name: "opt/tools/which", mode: 0o644, text: "bottom"})
	top := layerOf(t, file{name: "opt/tools/which", mode: 0o644, text: "included"})
	pushLayers(t, reg, "team/tools:1", bottom)
	pushLayers(t, reg, "team/which:1", top)
	p := startProxy(t, "", hub(reg.URL))
	including := func(images ...string) map[string]any {
		return map[string]any{
			"containerImage": "busybox:multi", "containerPlatform": "linux/amd64", "containerIncludes": images,
			"containerConfig": config{Layers: []testLayer{own}},
		}
	}

	a := p.augment(t, including("team/tools:1", "docker.io/team/which:1"))
	check(t, a.TargetImage)
	img := pull(t, a.TargetImage, "amd64")
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range manifest.Layers[1:] {
		got = append(got, l.Digest.String())
	}
	if want := []string{own.GzipDigest, bottom.GzipDigest, top.GzipDigest}; strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("layers %q, want %q", got, want)
	}
	if files := tree(t, img); files["opt/tools/which"] != "included" || files["etc/image-arch"] != "amd64\n" {
		t.Errorf("files %q and %q", files["opt/tools/which"], files["etc/image-arch"])
	}
	for _, e := range engine.Available(t) {
		t.Run(e.Name(), func(t *testing.T) {
			mustPull(t, e, a.TargetImage)
			if out := mustRun(t, e, a.TargetImage, "/opt/tools/run"); out != "included" {
				t.Errorf("printed %q", out)
			}
		})
	}
	if b := p.augment(t, including("team/which:1", "team/tools:1")); b.TargetImage == a.TargetImage {
		t.Error("included the other way round, the image has the same name")
	}

	arm := including("team/tools:1")
	arm["containerPlatform"] = "linux/arm64"
	for name, test := range map[string]struct {
		request map[string]any
		status  int
		says    string
	}{
		"absent":         {including("team/tools:1", "team/none:1"), http.StatusNotFound, "containerIncludes[1]"},
		"not a name":     {including("Team/Tools"), http.StatusBadRequest, "Team/Tools"},
		"other platform": {arm, http.StatusBadRequest, "linux/arm64"},
		"eleven":         {including(strings.Split("abcdefghijk", "")...), http.StatusBadRequest, "10"},
	} {
		t.Run(name, func(t *testing.T) {
			b := p.submit(t, test.request)
			if b.status != test.status {
				t.Errorf("status %d, want %d", b.status, test.status)
			}
			wantMessage(t, b.raw, test.says)
		})
	}
}

// pushLayers pushes an image for linux/amd64 of the layers alone.
func pushLayers(t *testing.T, reg *upstream.Server, name string, layers ...testLayer) {
	t.Helper()
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		if img, err = mutate.AppendLayers(img, tarLayer{static.NewLayer(l.archive, types.DockerLayer), l.TarDigest}); err != nil {
			t.Fatal(err)
		}
	}
	if err := crane.Push(img, reg.Host+"/"+name, crane.Insecure, crane.WithContext(t.Context())); err != nil {
		t.Fatal(fmt.Errorf("push %s: %w", name, err))
	}
}

// tarLayer is a static layer that knows its diff ID.
type tarLayer struct {
	v1.Layer
	diffID string
}

func (l tarLayer) DiffID() (v1.Hash, error) { return v1.NewHash(l.diffID) }
