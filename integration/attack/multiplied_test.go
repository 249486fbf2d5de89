package attack

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/waveproxy/waveproxy/integration/harness"
)

// frugal is how much more memory an attack of one small request may take, in MiB: what
// one request may hold, and garbage.
const frugal = 160

// wantFrugal posts a request. It fails the test if the server does not answer within
// patience or holds more than frugal.
func wantFrugal(t *testing.T, p *harness.Proxy, path, body string) harness.Response {
	t.Helper()
	before := peak(t, p.PID)
	r, err := p.Call(within(t, p.PID, patience), http.MethodPost, path, body)
	if err != nil {
		t.Fatalf("BREACH: %s %.200s: no answer: %v", path, body, err)
	}
	if now := peak(t, p.PID); now > before+frugal {
		t.Errorf("BREACH: %s %.200s: %d MiB after %d MiB", path, body, now, before)
	}
	return r
}

// TestAttackVariants asks for machines of versions that do not exist, as a request with
// no login may. The server is careless if it counts up to them.
func TestAttackVariants(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	p, _ := impatient(t, h.settings())
	for _, variant := range []string{"amd64/v20000000", "amd64/v9999999999", "arm/v9999999999", "arm/99999999999999999999", "arm64/v9.999999999"} {
		r := wantFrugal(t, p, "/v1alpha1/inspect?platform=linux/"+variant, fmt.Sprintf(`{"containerImage": "%s/good:x"}`, h.host()))
		submitted := wantFrugal(t, p, submission, fmt.Sprintf(`{"containerImage": "%s/good:x", "containerPlatform": "linux/%s", "containerConfig": {"env": ["A=b"]}}`, h.host(), variant))
		for _, r := range []harness.Response{r, submitted} {
			if r.Status != http.StatusOK && r.Status != http.StatusBadRequest {
				t.Errorf("%s: status %d: %.200s", variant, r.Status, r.Body)
			}
		}
	}
	wantAlive(t, p, h.host()+"/good:x")
}

// TestAttackCopies submits images, and pulls one under a recipe, whose indexes have long
// texts around many entries: one document could become gigabytes.
func TestAttackCopies(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	settings := h.settings()
	settings["WAVEPROXY_RECIPES"] = `{hello: {env: [A=b]}}`
	p, _ := impatient(t, settings)
	wantAlive(t, p, h.host()+"/good:x")
	list := make([]described, 150)
	for i := range list {
		list[i] = described{manifestType, harness.Sum(h.tinyImage.Manifest), len(h.tinyImage.Manifest), map[string]any{"os": "linux", "architecture": "amd64"}}
	}
	inner := indexOf(t, list...)
	keys := map[string]string{}
	for i := range 30_000 {
		keys[fmt.Sprint(i)] = ""
	}
	for name, annotations := range map[string]map[string]string{"text": {"a": strings.Repeat("x", 4<<20-4096)}, "keys": keys} {
		outer := harness.MustJSON(t, map[string]any{"schemaVersion": 2, "mediaType": indexType, "manifests": []any{map[string]any{
			"mediaType": indexType, "digest": harness.Sum(inner), "size": len(inner), "annotations": annotations,
		}}})
		h.on(name, h.family(map[string][]byte{harness.Sum(outer): outer, harness.Sum(inner): inner}, harness.Sum(outer)))
		r := wantFrugal(t, p, submission, fmt.Sprintf(`{"containerImage": "%s/%s:x", "containerConfig": {"env": ["A=b"]}}`, h.host(), name))
		harness.WantMessage(t, r.Body, "", "inner indexes")
		before := peak(t, p.PID)
		r, err := p.Call(within(t, p.PID, patience), http.MethodGet, "/v2/wt/hello/"+name+"/manifests/x?ns="+h.host(), "")
		if now := peak(t, p.PID); err != nil || r.Status != http.StatusBadRequest || now > before+frugal {
			t.Errorf("BREACH: a pull under a recipe: %v, status %d, %d MiB after %d MiB: %.200s", err, r.Status, now, before, r.Body)
		}
	}
}

// TestAttackChains submits base images whose entrypoints and variables are long.
func TestAttackChains(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	p, _ := impatient(t, h.settings())
	launchers := append(slices.Repeat([]string{"env"}, 30_000), "x")
	chains := slices.Repeat([]string{"WAVE_ENTRY_CHAIN=x"}, 30_000)
	for name, execution := range map[string]any{
		"launchers": map[string]any{"Entrypoint": launchers, "Env": chains},
		"script":    map[string]any{"Entrypoint": []string{"sh", "-c", strings.Repeat("env ", 500_000)}, "Env": chains},
		"path":      map[string]any{"Entrypoint": slices.Repeat([]string{"/a/w"}, 30_000), "Env": []string{"PATH=" + strings.Repeat(":", 1<<20)}},
	} {
		config := harness.MustJSON(t, map[string]any{"architecture": "amd64", "os": "linux", "config": execution,
			"rootfs": map[string]any{"type": "layers", "diff_ids": []string{h.tinyImage.Layer.TarDigest}}})
		image := h.tinyImage
		image.Config = config
		image.Manifest = manifestOf(t, described{configType, harness.Sum(config), len(config), nil},
			described{layerType, image.Layer.GzipDigest, image.Layer.GzipSize, nil})
		h.on(name, image.ServeHTTP)
		r := wantFrugal(t, p, submission, fmt.Sprintf(`{"containerImage": "%s/%s:x", "containerConfig": {"entrypoint": ["w"]}}`, h.host(), name))
		if r.Status != http.StatusOK && r.Status != http.StatusBadRequest {
			t.Errorf("%s: status %d: %.200s", name, r.Status, r.Body)
		}
	}
	wantAlive(t, p, h.host()+"/good:x")
}

// TestAttackInspections inspects an image of this server with a large manifest many times
// at once. A client may hold 65 MiB, and what is refused must cost next to nothing.
func TestAttackInspections(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	manifest := harness.MustJSON(t, map[string]any{
		"schemaVersion": 2, "mediaType": manifestType, "config": described{configType, harness.Sum(h.tinyImage.Config), len(h.tinyImage.Config), nil},
		"layers":      []described{{layerType, h.tinyImage.Layer.GzipDigest, h.tinyImage.Layer.GzipSize, nil}},
		"annotations": map[string]string{"x": strings.Repeat("x", 4<<20-4096)},
	})
	h.on("fat", h.document(manifestType, manifest))
	p, _ := impatient(t, h.settings())
	a := p.Augment(t, fmt.Sprintf(`{"containerImage": "%s/fat:x", "containerConfig": {"env": ["A=b"]}}`, h.host()))
	before := peak(t, p.PID)
	var all sync.WaitGroup
	for range 300 {
		all.Go(func() {
			if _, err := p.Call(t.Context(), http.MethodPost, "/v1alpha1/inspect", fmt.Sprintf(`{"containerImage": %q}`, a.TargetImage)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if now := peak(t, p.PID); now > before+frugal {
		t.Errorf("BREACH: %d MiB after %d MiB", now, before)
	}
}
