package attack

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// TestAttackPolicy is a caller who may use the images of team a and wants those of
// team b: by URLs of their layers at the registry, by a name that was made before the
// configuration forbade it, and for longer than allowed.
func TestAttackPolicy(t *testing.T) {
	t.Parallel()
	reg := upstream.Registry(t)
	harness.PushAliases(t, reg, "busybox:docker", "team-a/app:1", "team-b/app:1")
	layer := harness.BlobOf(t, reg, "team-b/app:1")
	const a, b = "hunter2hunter2-a", "hunter2hunter2-b"
	settings := map[string]string{
		"WAVEPROXY_REGISTRIES":     fmt.Sprintf(`{%q: {plain_http: true}}`, reg.Host),
		"WAVEPROXY_API_AUTH":       "bearer",
		"WAVEPROXY_API_TOKENS":     fmt.Sprintf(`{a: {token: %q}, b: {token: %q}}`, a, b),
		"WAVEPROXY_API_IDENTITIES": fmt.Sprintf(`{a: {images: [%q], ttl: 10h}, b: {images: [%q]}}`, reg.Host+"/team-a/*", reg.Host+"/team-*"),
		"WAVEPROXY_TOKENS_TTL":     "80h",
	}
	dir := t.TempDir()
	p := harness.StartProxy(t, dir, settings)
	submit := func(p *harness.Proxy, token string, members map[string]any) harness.Response {
		t.Helper()
		body := map[string]any{"containerImage": reg.Host + "/team-a/app:1", "towerAccessToken": token}
		maps.Copy(body, members)
		return p.Post(t, submission, body)
	}
	port := reg.Host[strings.LastIndex(reg.Host, ":")+1:]
	at := func(host, repository string) map[string]any {
		return map[string]any{"containerConfig": map[string]any{"layers": []any{map[string]any{
			"location": "http://" + host + "/v2/" + repository + "/blobs/" + layer.GzipDigest, "gzipDigest": layer.GzipDigest}}}}
	}
	if r := submit(p, b, at(reg.Host, "team-b/app")); r.Status != http.StatusOK { // and now its layer is known
		t.Fatalf("the owner: %d %s", r.Status, r.Body)
	}
	if r := submit(p, a, at(reg.Host, "team-a/app")); r.Status != http.StatusOK {
		t.Errorf("the control: %d %s", r.Status, r.Body)
	}
	host := strings.TrimSuffix(reg.Host, ":"+port)
	for _, location := range [][2]string{
		{reg.Host, "team-b/app"}, {host + ":0" + port, "team-b/app"}, {host + ".:" + port, "team-b/app"},
		{reg.Host, "team-a/../team-b/app"}, {reg.Host, "team-a/%2e%2e/team-b/app"}, {reg.Host + "/", "team-b/app"},
	} {
		if r := submit(p, a, at(location[0], location[1])); r.Status != http.StatusForbidden {
			t.Errorf("BREACH: a layer of another team at http://%s/v2/%s: %d %s", location[0], location[1], r.Status, r.Body)
		}
	}

	image, err := submit(p, a, nil).Answer()
	if err != nil {
		t.Fatal(err)
	}
	if lives := time.Until(harness.MustTime(t, image.Expiration)); lives > 10*time.Hour {
		t.Errorf("BREACH: a token of an identity that may have 10h lives %s", lives)
	}
	included, err := submit(p, b, map[string]any{"containerIncludes": []string{reg.Host + "/team-b/app:1"}}).Answer()
	if err != nil {
		t.Fatal(err)
	}
	manifest := func(p *harness.Proxy, a harness.Answer) string {
		return p.URL + "/v2/wt/" + a.ContainerToken + "/team-a/app/manifests/" + a.TargetDigest
	}
	for _, i := range []harness.Answer{image, included} {
		if r := harness.Do(t, "GET", manifest(p, i)); r.Status != http.StatusOK {
			t.Fatalf("before: %d %s", r.Status, r.Body)
		}
	}
	p.Stop()
	for key, change := range map[string]map[string]string{
		"upstreams.deny": {"WAVEPROXY_UPSTREAMS_DENY": fmt.Sprintf(`[%q, %q]`, reg.Host+"/team-a/app", reg.Host+"/team-b/*")},
		"api.identities": {"WAVEPROXY_API_IDENTITIES": `{a: {images: [quay.io]}, b: {images: ["*/team-a/*"]}}`},
	} {
		changed := maps.Clone(settings)
		maps.Copy(changed, change)
		p := harness.StartProxy(t, dir, changed)
		for name, i := range map[string]harness.Answer{"an image": image, "an included image": included} {
			if r := harness.Do(t, "GET", manifest(p, i)); r.Status != http.StatusForbidden || !strings.Contains(r.Body, key) {
				t.Errorf("BREACH: %s, made before %s changed, is %d %s", name, key, r.Status, r.Body)
			}
		}
		p.Stop()
	}
}
