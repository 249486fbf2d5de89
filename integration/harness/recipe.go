package harness

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/integration/upstream"
)

// scripts returns a directory with one program, for a recipe.
func scripts(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	WriteFile(t, filepath.Join(dir, "hello"), "#!/bin/sh\necho \"$GREETING from $0\"\n", 0o755)
	return dir
}

// ScriptsGreeting is the output of the recipe's program.
const ScriptsGreeting = "hello from /opt/scripts/hello\n"

// WithScripts returns a configuration with a recipe that adds the program. The local
// registry stands in for Docker Hub and is listed under its own name, too.
func WithScripts(t *testing.T, reg *upstream.Server) map[string]string {
	return map[string]string{
		"WAVEPROXY_REGISTRIES": fmt.Sprintf(`{docker.io: {url: %q}, %q: {plain_http: true, alias: team.test}}`, reg.URL, reg.Host),
		"WAVEPROXY_RECIPES":    fmt.Sprintf(`{scripts: {layers: [{path: %q, target: /opt/scripts}], env: [GREETING=hello]}}`, scripts(t)),
	}
}

// NamedManifest reads a manifest through a recipe.
func NamedManifest(t *testing.T, p *Proxy, name, ref string) (root string, m ocispec.Manifest) {
	t.Helper()
	resp, err := p.Call(t.Context(), http.MethodGet, "/v2/wt/"+name+"/manifests/"+ref, "")
	if err != nil || resp.Status != http.StatusOK {
		t.Fatalf("status %d, %v: %s", resp.Status, err, resp.Body)
	}
	if err := json.Unmarshal([]byte(resp.Body), &m); err != nil {
		t.Fatal(err)
	}
	return Sum([]byte(resp.Body)), m
}

// TagLife is a little longer than a server trusts a tag without a request to the
// upstream.
const TagLife = 31 * time.Second
