package recipes

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/waveproxy/waveproxy/integration/engine"
	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// TestVariablesExtendTheImages: programs that engines start see values made of the
// image's, by a recipe, a request, and both; Wave's env keeps its dollars.
func TestVariablesExtendTheImages(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:docker-multi")
	base, err := crane.Pull(reg.Host+"/library/busybox:docker-multi", crane.Insecure, crane.WithPlatform(&v1.Platform{OS: "linux", Architecture: "amd64"}))
	if err != nil {
		t.Fatal(err)
	}
	config := harness.MustConfig(t, base).DeepCopy()
	config.Config.Env = []string{"PATH=/bin:/usr/bin", "GREETING=hello $USER"}
	if base, err = mutate.ConfigFile(base, config); err != nil {
		t.Fatal(err)
	}
	if err := crane.Push(base, reg.Host+"/library/vars:1", crane.Insecure); err != nil {
		t.Fatal(err)
	}
	p := harness.StartProxy(t, "", map[string]string{
		"WAVEPROXY_REGISTRIES": fmt.Sprintf("{docker.io: {url: %q}}", reg.URL),
		"WAVEPROXY_RECIPES": `{tools: {env: ["LITERAL=${PATH}"], extend_env: ["PATH=/opt/x:${PATH}", "GREETING=${GREETING}, $$5",
			"LD_LIBRARY_PATH=/opt/lib:${LD_LIBRARY_PATH}"]}}`,
	})
	recipe := p.Host + "/wt/tools/library/vars:1"
	both := p.Augment(t, fmt.Sprintf(`{"containerImage": %q, "containerConfig": {"env": ["W=${X}$$"], "extendEnv": ["PATH=${PATH}:/more"]}}`, recipe)).TargetImage
	for image, want := range map[string]string{
		recipe: "/opt/x:/bin:/usr/bin|hello $USER, $5|/opt/lib|${PATH}|",
		both:   "/opt/x:/bin:/usr/bin:/more|hello $USER, $5|/opt/lib|${PATH}|${X}$$",
	} {
		for _, e := range engine.Available(t) {
			harness.MustPull(t, e, image)
			if out := harness.MustRun(t, e, image, "/bin/sh", "-c", `echo "$PATH|$GREETING|$LD_LIBRARY_PATH|$LITERAL|$W"`); strings.TrimSpace(out) != want {
				t.Errorf("%s prints %q, want %q", e.Name(), out, want)
			}
		}
	}
	out, _, err := harness.Run(t, []string{"WAVEPROXY_SERVER=" + p.URL}, "augment", "vars:1", "--env", "T=${T}", "--extend-env", "PATH=/cli:${PATH}")
	if err != nil {
		t.Fatal(err)
	}
	if got := harness.MustConfig(t, harness.Pull(t, strings.TrimSpace(out), "amd64")).Config.Env; !strings.Contains(strings.Join(got, "\n")+"\n", "PATH=/cli:/bin:/usr/bin\n") || !strings.Contains(strings.Join(got, "\n"), "T=${T}") {
		t.Errorf("the command makes %q", got)
	}
	_, message, err := harness.Run(t, []string{"WAVEPROXY_SERVER=" + p.URL}, "augment", "vars:1", "--extend-env", "PATH=/cli:$PATH")
	if err == nil || !strings.Contains(message, "write ${NAME} for the image's value of NAME, and $$ for a dollar") {
		t.Errorf("%v: %s", err, message)
	}
}
