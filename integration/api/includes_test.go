package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/integration/engine"
	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// TestIncludes lays the layers of other images over an image, in their order and
// with their own digests, and runs their programs.
func TestIncludes(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:multi")
	own := harness.LayerOf(t, harness.File{Name: "opt/tools/which", Mode: 0o644, Text: "the request's"})
	bottom := harness.LayerOf(t, harness.File{Name: "opt/tools/run", Mode: 0o755, Text: "#!/bin/sh\ncat /opt/tools/which\n"}, harness.File{Name: "opt/tools/which", Mode: 0o644, Text: "bottom"})
	top := harness.LayerOf(t, harness.File{Name: "opt/tools/which", Mode: 0o644, Text: "included"})
	harness.PushLayers(t, reg, "team/tools:1", bottom)
	harness.PushLayers(t, reg, "team/which:1", top)
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	including := func(images ...string) map[string]any {
		return map[string]any{
			"containerImage": "busybox:multi", "containerPlatform": "linux/amd64", "containerIncludes": images,
			"containerConfig": harness.Config{Layers: []harness.Layer{own}},
		}
	}

	a := p.Augment(t, including("team/tools:1", "docker.io/team/which:1"))
	harness.Verify(t, a.TargetImage)
	img := harness.Pull(t, a.TargetImage, "amd64")
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
	if files := harness.Files(t, img); files["opt/tools/which"] != "included" || files["etc/image-arch"] != "amd64\n" {
		t.Errorf("files %q and %q", files["opt/tools/which"], files["etc/image-arch"])
	}
	for _, e := range engine.Available(t) {
		t.Run(e.Name(), func(t *testing.T) {
			harness.MustPull(t, e, a.TargetImage)
			if out := harness.MustRun(t, e, a.TargetImage, "/opt/tools/run"); out != "included" {
				t.Errorf("printed %q", out)
			}
		})
	}
	if b := p.Augment(t, including("team/which:1", "team/tools:1")); b.TargetImage == a.TargetImage {
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
			b := p.Submit(t, test.request)
			if b.Status != test.status {
				t.Errorf("status %d, want %d", b.Status, test.status)
			}
			harness.WantMessage(t, b.Raw, test.says)
		})
	}
}
