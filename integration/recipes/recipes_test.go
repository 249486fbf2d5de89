package recipes

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/waveproxy/waveproxy/integration/engine"
	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// TestRecipes pulls and runs images through a recipe's name, without a request to
// the API.
func TestRecipes(t *testing.T) {
	engines := engine.Available(t)
	reg := upstream.Registry(t)
	digests := upstream.Push(t, reg.Host, "busybox:docker", "busybox:multi")
	if err := crane.Tag(reg.Host+"/library/busybox:docker", "latest", crane.Insecure); err != nil {
		t.Fatal(err)
	}
	p := harness.StartProxy(t, "", harness.WithScripts(t, reg))
	through := p.Host + "/wt/scripts/"
	for _, e := range engines {
		t.Run(e.Name(), func(t *testing.T) {
			for _, image := range []string{"library/busybox:latest", "library/busybox:multi", "team.test/library/busybox:docker"} {
				harness.MustPull(t, e, through+image)
				if out := harness.MustRun(t, e, through+image, "/opt/scripts/hello"); out != harness.ScriptsGreeting {
					t.Errorf("%s prints %q, want %q", image, out, harness.ScriptsGreeting)
				}
			}
			pinned := through + "library/busybox@" + digests["busybox:docker"].String()
			harness.MustPull(t, e, pinned)
			if out := harness.MustRun(t, e, pinned, "/bin/sh", "-c", `test ! -e /opt/scripts && echo "${GREETING-none}"`); out != "none\n" {
				t.Errorf("the image by digest prints %q", out)
			}
		})
	}
	t.Run("the name alone", func(t *testing.T) {
		for _, e := range engines {
			if e.Name() == "docker" {
				harness.MustPull(t, e, through+"library/busybox")
				if out := harness.MustRun(t, e, through+"library/busybox", "/opt/scripts/hello"); out != harness.ScriptsGreeting {
					t.Errorf("the image prints %q", out)
				}
			}
		}
	})
	t.Run("referrers", func(t *testing.T) { wantProvenance(t, p, through+"library/busybox", "docker") })
	t.Run("no such recipe", func(t *testing.T) {
		resp := harness.Do(t, http.MethodGet, p.URL+"/v2/wt/other/library/busybox/manifests/docker")
		if resp.Status != http.StatusNotFound || !strings.Contains(resp.Body, "no such recipe") {
			t.Errorf("status %d: %s", resp.Status, resp.Body)
		}
	})
}

// wantProvenance discovers the recipe's provenance as oras does.
func wantProvenance(t *testing.T, p *harness.Proxy, name, tag string) {
	t.Helper()
	repo, err := remote.NewRepository(name)
	if err != nil {
		t.Fatal(err)
	}
	repo.PlainHTTP = true
	desc, err := repo.Resolve(t.Context(), tag)
	if err != nil {
		t.Fatal(err)
	}
	var found []ocispec.Descriptor
	if err := repo.Referrers(t.Context(), desc, "application/vnd.in-toto+json", func(r []ocispec.Descriptor) error {
		found = append(found, r...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 {
		t.Fatalf("referrers %v, want one", found)
	}
	root, m := harness.NamedManifest(t, p, strings.TrimPrefix(name, p.Host+"/wt/"), found[0].Digest.String())
	if root != found[0].Digest.String() || m.Subject == nil || m.Subject.Digest != desc.Digest || len(m.Layers) != 1 {
		t.Fatalf("%s: %+v", root, m)
	}
	statement := harness.Do(t, http.MethodGet, p.URL+"/v2/wt/"+strings.TrimPrefix(name, p.Host+"/wt/")+"/blobs/"+m.Layers[0].Digest.String())
	if harness.Sum([]byte(statement.Body)) != m.Layers[0].Digest.String() {
		t.Errorf("the statement does not have its digest: %d %s", statement.Status, statement.Body)
	}
	for _, want := range []string{desc.Digest.Encoded(), "https://slsa.dev/provenance/v1", `"scripts"`, "GREETING"} {
		if !strings.Contains(statement.Body, want) {
			t.Errorf("the statement does not have %s: %s", want, statement.Body)
		}
	}
}

// TestRecipesReload changes recipes while the server runs.
func TestRecipesReload(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:docker")
	file := filepath.Join(t.TempDir(), "config.yml")
	set := func(recipes string) {
		harness.WriteFile(t, file, fmt.Sprintf("registries: {docker.io: {url: %q}}\nrecipes: %s\n", reg.URL, recipes), 0o600)
	}
	set("{one: {env: [A=1]}}")
	p := harness.StartProxy(t, "", map[string]string{"WAVEPROXY_CONFIG": file})
	reload := func(says string) {
		t.Helper()
		before := strings.Count(p.Log.String(), says)
		if err := syscall.Kill(p.PID, syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		harness.WaitFor(t, 20*time.Second, func() bool { return strings.Count(p.Log.String(), says) > before })
	}
	digest := func(recipe string) string {
		t.Helper()
		digest, _ := harness.NamedManifest(t, p, recipe+"/library/busybox", "docker")
		return digest
	}
	first := digest("one")
	set("{one: {env: [A=2]}, two: {env: [B=1]}}")
	reload("recipes in force")
	second := digest("one")
	if second == first {
		t.Error("the reload did not change the recipe")
	}
	digest("two")
	if again, _ := harness.NamedManifest(t, p, "one/library/busybox", first); again != first {
		t.Errorf("the digest that was advertised before is now %s", again)
	}
	set(`{one: {env: [A=3]}, bad: {layers: [{path: /does/not/exist}]}, worse: {env: [x]}}`)
	reload("worse")
	for _, want := range []string{"/does/not/exist", "recipes.worse.env"} {
		if !strings.Contains(p.Log.String(), want) {
			t.Errorf("the log does not name %s", want)
		}
	}
	if got := digest("one"); got != second {
		t.Errorf("after a bad reload the recipe gives %s, want %s", got, second)
	}
}

// TestRecipeDocuments has a recipe that names the URL of a container config for
// each architecture, as a recipe for Fusion does.
func TestRecipeDocuments(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:multi")
	var files sync.Map // the origin's files, by path
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if data, ok := files.Load(r.URL.Path); ok {
			_, _ = w.Write(data.([]byte))
			return
		}
		http.NotFound(w, r)
	}))
	defer origin.Close()
	settings := map[string]string{
		"WAVEPROXY_REGISTRIES": fmt.Sprintf(`{docker.io: {url: %q}, %q: {plain_http: true}}`, reg.URL, strings.TrimPrefix(origin.URL, "http://")),
		"WAVEPROXY_RECIPES":    fmt.Sprintf(`{tool: {container_config_url: "%s/v1-{arch}.json", env: [LEVEL=info]}}`, origin.URL),
	}
	for _, arch := range []string{"amd64", "arm64"} {
		layer := harness.LayerOf(t, harness.File{Name: "opt/tool", Mode: 0o755, Text: "#!/bin/sh\necho \"tool for " + arch + ", $LEVEL\"\n"})
		files.Store("/tool-"+arch+".tar.gz", layer.Archive)
		files.Store("/v1-"+arch+".json", fmt.Appendf(nil, `{"env": ["TOOL=1"], "layers": [{"location": %q, "gzipDigest": %q, "gzipSize": %d, "tarDigest": %q}]}`,
			origin.URL+"/tool-"+arch+".tar.gz", layer.GzipDigest, layer.GzipSize, layer.TarDigest))
	}
	dir := t.TempDir()
	p := harness.StartProxy(t, dir, settings)
	docker := harness.DockerEngine(t)
	image := p.Host + "/wt/tool/library/busybox:multi"
	harness.MustPull(t, docker, image)
	if out := harness.MustRun(t, docker, image, "/opt/tool"); out != "tool for amd64, info\n" {
		t.Errorf("the image prints %q", out)
	}
	first, err := crane.Digest(image, crane.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	p.Stop()
	origin.Close()
	p = harness.StartProxy(t, dir, settings)
	if again, err := crane.Digest(p.Host+"/wt/tool/library/busybox:multi", crane.Insecure); err != nil || again != first {
		t.Errorf("after a restart without the origin: %s, %v; want %s", again, err, first)
	}
}
