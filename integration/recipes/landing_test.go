package recipes

import (
	"archive/tar"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/integration/engine"
	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// TestKeepModes: directories that an image has keep their mode in every engine, unless the
// recipe says otherwise. The layers are merged in one of the servers.
func TestKeepModes(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:docker")
	archive := func(name string) string {
		l := harness.LayerOf(t, harness.File{Name: "tmp/", Kind: tar.TypeDir, Mode: 0o700}, harness.File{Name: "tmp/" + name, Mode: 0o640, Text: name},
			harness.File{Name: "data/", Kind: tar.TypeDir, Mode: 0o710}, harness.File{Name: "data/" + name, Mode: 0o600, Text: name})
		path := filepath.Join(t.TempDir(), name+".tar.gz")
		harness.WriteFile(t, path, string(l.Archive), 0o644)
		return path
	}
	a, b := archive("a"), archive("b")
	settings := harness.DockerHub(reg.URL)
	settings["WAVEPROXY_RECIPES"] = fmt.Sprintf(`{keeps: {layers: [{path: %[1]q}, {path: %[2]q}]}, takes: {layers: [{path: %[1]q, keep_modes: false}, {path: %[2]q}]}, `+
		`last: {layers: [{path: %[1]q}, {path: %[2]q, keep_modes: false}]}}`, a, b)
	apart := harness.StartProxy(t, "", settings)
	_, m := harness.NamedManifest(t, apart, "keeps/library/busybox", "docker")
	settings["WAVEPROXY_LIMITS_LAYERS"] = fmt.Sprint(len(m.Layers) - 1)
	merging := harness.StartProxy(t, "", settings)
	if _, merged := harness.NamedManifest(t, merging, "keeps/library/busybox", "docker"); len(merged.Layers) != len(m.Layers)-1 {
		t.Fatalf("%d layers, and %d where they are merged", len(m.Layers), len(merged.Layers))
	}
	for _, e := range engine.Available(t) {
		t.Run(e.Name(), func(t *testing.T) {
			for _, p := range []*harness.Proxy{apart, merging} {
				for recipe, want := range map[string]string{
					"keeps": "1777 640 640 710 600 600",
					"takes": "700 640 640 710 600 600",
					"last":  "700 640 640 710 600 600",
				} {
					image := p.Host + "/wt/" + recipe + "/library/busybox:docker"
					harness.MustPull(t, e, image)
					out := harness.MustRun(t, e, image, "/bin/sh", "-c", "stat -c %a /tmp /tmp/a /tmp/b /data /data/a /data/b")
					if got := strings.Join(strings.Fields(out), " "); got != want {
						t.Errorf("%s, %s: modes %s, want %s", recipe, p.Host, got, want)
					}
				}
			}
		})
	}
}
