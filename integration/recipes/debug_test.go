package recipes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/waveproxy/waveproxy/integration/engine"
	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// TestDebugRecipe runs the commands of docs/debug.md, and a shell in an image that has
// nothing but one file.
func TestDebugRecipe(t *testing.T) {
	page, err := os.ReadFile("../../docs/debug.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := strings.Split(string(page), "```")[1]
	dir := t.TempDir()
	sh := exec.Command("/bin/sh", "-e", "-c", commands)
	sh.Dir = dir
	if out, err := sh.CombinedOutput(); err != nil || !strings.Contains(commands, "/bin/busybox") {
		t.Fatalf("%s: %v\n%s", commands, err, out)
	}
	reg := upstream.Registry(t)
	base, err := crane.Image(map[string][]byte{"app/data": []byte("only this\n")})
	if err != nil {
		t.Fatal(err)
	}
	config, err := base.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config.OS, config.Architecture = "linux", "amd64"
	if base, err = mutate.ConfigFile(base, config); err != nil {
		t.Fatal(err)
	}
	if err := crane.Push(base, reg.Host+"/distroless/data:1", crane.Insecure); err != nil {
		t.Fatal(err)
	}
	recipe := fmt.Sprintf("{debug: {layers: [{path: %s/, target: /busybox, platform: linux/amd64}]}}", filepath.Join(dir, "debug/amd64"))
	p := harness.StartProxy(t, "", map[string]string{
		"WAVEPROXY_REGISTRIES": fmt.Sprintf("{docker.io: {url: %q}}", reg.URL), "WAVEPROXY_RECIPES": recipe,
	})
	image := p.Host + "/wt/debug/distroless/data:1"
	for _, e := range engine.Available(t) {
		harness.MustPull(t, e, image)
		if out := harness.MustRun(t, e, image, "/busybox/sh", "-c", "/busybox/cat /app/data"); out != "only this\n" {
			t.Errorf("%s prints %q", e.Name(), out)
		}
	}
}
