package clients

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/waveproxy/waveproxy/integration/engine"
	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// fusionStandIn takes the place of the fusion program. Like the real program, it
// skips its own name before the command, because the image's entrypoint is there
// as well.
const fusionStandIn = `#!/bin/sh
[ "$1" = /usr/bin/fusion ] && shift
export FUSION_IS_FOR=%s
exec "$@"
`

// fusionOrigin is the server that has Fusion: a recipe and a layer for each
// architecture.
type fusionOrigin struct {
	*httptest.Server

	mu      sync.Mutex
	layers  map[string]harness.Layer // by architecture
	fetched map[string]int           // by path
}

func newFusionOrigin(t *testing.T) *fusionOrigin {
	t.Helper()
	o := &fusionOrigin{layers: map[string]harness.Layer{}, fetched: map[string]int{}}
	for _, arch := range []string{"amd64", "arm64"} {
		o.layers[arch] = harness.LayerOf(t, harness.File{Name: "usr/bin/fusion", Mode: 0o755, Text: fmt.Sprintf(fusionStandIn, arch)})
	}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.fetched[r.URL.Path]++
		for arch, l := range o.layers {
			switch r.URL.Path {
			case "/v2.6-" + arch + ".json":
				l.Location = o.URL + layerPath(arch)
				_ = json.NewEncoder(w).Encode(harness.NextflowConfig(harness.Config{
					Entrypoint: []string{"/usr/bin/fusion"},
					Env:        []string{"FUSION_CONFIG_PROFILE=nextflow", "FUSION_COMPACT_SYMLINKS=true"},
					Layers:     []harness.Layer{l},
				}))
			case layerPath(arch):
				_, _ = w.Write(l.Archive)
			}
		}
	}))
	t.Cleanup(o.Close)
	return o
}

func (o *fusionOrigin) layer(arch string) harness.Layer {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.layers[arch]
}

func (o *fusionOrigin) replace(arch string, l harness.Layer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.layers[arch] = l
}

func layerPath(arch string) string { return "/pkg/2/6/0/fusion-" + arch + ".tar.gz" }

// settings returns a configuration that lists the origin, because its address is
// not public.
func (o *fusionOrigin) settings(reg *upstream.Server) map[string]string {
	return map[string]string{"WAVEPROXY_REGISTRIES": fmt.Sprintf(`{docker.io: {url: %q}, %q: {plain_http: true}}`, reg.URL, strings.TrimPrefix(o.URL, "http://"))}
}

// config returns the container config that Nextflow makes from the project's
// files and the fetched recipes, one for each platform: the last entrypoint, each
// variable once, all layers.
func (o *fusionOrigin) config(t *testing.T, bin harness.Layer, archs ...string) harness.Config {
	t.Helper()
	merged := harness.Config{Layers: []harness.Layer{bin}}
	env := map[string]string{}
	for _, arch := range archs {
		status, body := harness.Get(t, o.URL+"/v2.6-"+arch+".json")
		var fetched harness.Config
		if err := json.Unmarshal([]byte(body), &fetched); err != nil || status != http.StatusOK {
			t.Fatalf("%d %s: %v", status, body, err)
		}
		merged.Entrypoint = fetched.Entrypoint
		for _, e := range fetched.Env {
			name, _, _ := strings.Cut(e, "=")
			env[name] = e
		}
		merged.Layers = append(merged.Layers, fetched.Layers...)
	}
	merged.Env = slices.Sorted(maps.Values(env))
	return merged
}

// TestFusion runs tasks the way Nextflow does with Fusion: the client names the
// layer's URL, the server fetches the layer, and the container starts through its
// program.
func TestFusion(t *testing.T) {
	reg := upstream.Registry(t)
	harness.PushAliases(t, reg, "busybox:multi", "ubuntu:latest", "alpine:latest")
	harness.PushAliases(t, reg, "busybox:oci", "amd64:only")
	origin := newFusionOrigin(t)
	p := harness.StartProxy(t, "", origin.settings(reg))
	bin := harness.LayerOf(t, harness.File{Name: "usr/local/bin/proj.sh", Mode: 0o755, Text: "#!/bin/sh\necho project on $FUSION_IS_FOR with $FUSION_CONFIG_PROFILE\n"})
	task := func(image, platform string, archs ...string) string {
		return harness.NextflowRequest(t, map[string]any{
			"containerImage": image, "containerPlatform": platform, "containerConfig": harness.NextflowConfig(origin.config(t, bin, archs...)),
		})
	}

	// The first tasks all come at once, before the layer is there.
	first := task("ubuntu:latest", "linux/amd64", "amd64")
	atOnce(t, func(ctx context.Context, _ int) error {
		resp, err := p.Call(ctx, http.MethodPost, "/v1alpha2/container", first)
		if err == nil && resp.Status != http.StatusOK {
			err = fmt.Errorf("submit: %d %s", resp.Status, resp.Body)
		}
		return err
	})
	single := p.Augment(t, first)
	wantFusion(t, origin, bin, single.TargetImage, "amd64")
	// Clients may leave the choice of layers to the server.
	chosen := p.Augment(t, task("alpine:latest", "linux/amd64", "amd64", "arm64"))
	wantFusion(t, origin, bin, chosen.TargetImage, "amd64")
	both := p.Augment(t, task("ubuntu:latest", "linux/amd64,linux/arm64", "amd64", "arm64"))
	wantFusion(t, origin, bin, both.TargetImage, "amd64", "arm64")

	for _, e := range engine.Available(t) {
		t.Run(e.Name(), func(t *testing.T) {
			for _, image := range []string{single.TargetImage, both.TargetImage} {
				harness.MustPull(t, e, image)
				out := harness.MustRun(t, e, image, "/usr/bin/fusion", "sh", "-c", `echo "task on $FUSION_IS_FOR"; proj.sh`)
				if out != "task on amd64\nproject on amd64 with nextflow\n" {
					t.Errorf("printed %q", out)
				}
			}
		})
	}

	for name, test := range map[string]struct{ image, platform, says string }{
		"other architecture": {"amd64:only", "linux/amd64", "linux/amd64"},
		"no platform asked":  {"amd64:only", "", "linux/amd64"},
		"one of two":         {"ubuntu:latest", "linux/amd64,linux/arm64", "linux/amd64"},
	} {
		t.Run(name, func(t *testing.T) {
			before := harness.Stored(t, p.Dir)
			a := p.Submit(t, task(test.image, test.platform, "arm64"))
			if a.Status != http.StatusBadRequest {
				t.Errorf("status %d, want 400", a.Status)
			}
			harness.WantMessage(t, a.Raw, test.says, test.image)
			if after := harness.Stored(t, p.Dir); after != before {
				t.Errorf("it stored something:\n%s", after)
			}
		})
	}

	onARM := task("ubuntu:latest", "linux/arm64", "arm64")
	origin.Close() // waits for its handlers
	for _, arch := range []string{"amd64", "arm64"} {
		if n := origin.fetched[layerPath(arch)]; n != 1 {
			t.Errorf("the layer for %s was fetched %d times, want once", arch, n)
		}
	}
	wantFusion(t, origin, bin, single.TargetImage, "amd64")
	wantFusion(t, origin, bin, p.Augment(t, first).TargetImage, "amd64")
	wantFusion(t, origin, bin, p.Augment(t, onARM).TargetImage, "arm64")
}

// wantFusion verifies every byte of an image. It must have exactly these
// architectures, each with its own Fusion layer above the project's.
func wantFusion(t *testing.T, origin *fusionOrigin, bin harness.Layer, image string, archs ...string) {
	t.Helper()
	harness.Verify(t, image)
	index, err := remote.Index(harness.MustRef(t, image), remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, entry := range entries.Manifests {
		platforms = append(platforms, entry.Platform.Architecture)
	}
	if !slices.Equal(platforms, archs) {
		t.Errorf("%s is for %q, want %q", image, platforms, archs)
	}
	for _, arch := range archs {
		img := harness.Pull(t, image, arch)
		manifest, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		var layers []string
		for _, l := range manifest.Layers {
			layers = append(layers, l.Digest.String())
		}
		if want := []string{bin.GzipDigest, origin.layer(arch).GzipDigest}; len(layers) != 3 || !slices.Equal(layers[1:], want) {
			t.Errorf("%s for %s has layers %q, want the base's and %q", image, arch, layers, want)
		}
		if got := harness.Files(t, img)["usr/bin/fusion"]; got != fmt.Sprintf(fusionStandIn, arch) {
			t.Errorf("%s for %s has %q", image, arch, got)
		}
	}
}

// TestFusionVerified: the server refuses a layer that differs from the client's
// digests.
func TestFusionVerified(t *testing.T) {
	reg := upstream.Registry(t)
	harness.PushAliases(t, reg, "busybox:multi", "ubuntu:latest")
	origin := newFusionOrigin(t)
	p := harness.StartProxy(t, "", origin.settings(reg))
	bin := harness.LayerOf(t, harness.File{Name: "usr/local/bin/proj.sh", Mode: 0o755, Text: "#!/bin/sh\n"})
	promised := origin.layer("amd64")
	body := harness.NextflowRequest(t, map[string]any{"containerConfig": harness.NextflowConfig(origin.config(t, bin, "amd64"))})
	replaced := harness.LayerOf(t, harness.File{Name: "usr/bin/fusion", Mode: 0o755, Text: "#!/bin/sh\necho replaced\n"})
	origin.replace("amd64", replaced)
	before := harness.Stored(t, p.Dir)
	a := p.Submit(t, body)
	if a.Status != http.StatusBadRequest {
		t.Errorf("status %d, want 400", a.Status)
	}
	harness.WantMessage(t, a.Raw, "containerConfig.layers[1]", "gzipDigest", promised.GzipDigest, replaced.GzipDigest)
	if after := harness.Stored(t, p.Dir); after != before {
		t.Errorf("it stored something:\n%s", after)
	}
	// The server fetches the layer again once it is right.
	origin.replace("amd64", promised)
	wantFusion(t, origin, bin, p.Augment(t, body).TargetImage, "amd64")
}
