package api

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// TestOwnNames gives names of the server back to it. What they stand for is
// augmented further, on the original base image, included and inspected, and no
// request goes to the server itself.
func TestOwnNames(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:docker", "busybox:entry")
	settings := harness.WithScripts(t, reg)
	p := harness.StartProxy(t, "", settings)
	host := p.Host
	one := harness.LayerOf(t, harness.File{Name: "srv/one", Mode: 0o644, Text: "1"}, harness.File{Name: "srv/both", Mode: 0o644, Text: "1"})
	two := harness.LayerOf(t, harness.File{Name: "srv/two", Mode: 0o644, Text: "2"}, harness.File{Name: "srv/both", Mode: 0o644, Text: "2"})
	first := p.Augment(t, harness.Request{ContainerImage: "busybox:entry", ContainerConfig: &harness.Config{
		Env: []string{"A=1", "B=1"}, Entrypoint: []string{"/wrap/one"}, Layers: []harness.Layer{one}}})
	token := first.ContainerToken
	more := &harness.Config{Env: []string{"B=2"}, Entrypoint: []string{"/wrap/two"}, Layers: []harness.Layer{two}}

	t.Run("augmented further", func(t *testing.T) {
		// The tag moves, and the token's image stays what it is.
		harness.PushAliases(t, reg, "busybox:docker", "busybox:entry")
		tagless := strings.TrimSuffix(first.TargetImage, ":entry")
		names := []string{first.TargetImage, tagless, tagless + "@" + first.TargetDigest, first.TargetImage + "@" + first.TargetDigest,
			strings.Replace(first.TargetImage, token+"/", token+"/v2/", 1), strings.Replace(first.TargetImage, "localhost", "127.0.0.1", 1)}
		var images []string
		for _, name := range names {
			a := p.Augment(t, harness.Request{ContainerImage: name, ContainerConfig: more})
			if a.SourceDigest != first.SourceDigest || a.ContainerImage != "docker.io/library/busybox:entry" {
				t.Errorf("%s: the base is %s %s, want busybox:entry %s", name, a.ContainerImage, a.SourceDigest, first.SourceDigest)
			}
			images = append(images, a.TargetImage)
		}
		if slices.Sort(images); len(slices.Compact(images)) != 1 {
			t.Errorf("one image has the names %v", images)
		}
		harness.Verify(t, images[0])
		img := harness.Pull(t, images[0], "amd64")
		config := harness.MustConfig(t, img).Config
		files := harness.Files(t, img)
		if files["srv/one"] != "1" || files["srv/two"] != "2" || files["srv/both"] != "2" {
			t.Errorf("files: %v", files)
		}
		for _, want := range []string{"A=1", "B=2"} {
			if !slices.Contains(config.Env, want) {
				t.Errorf("environment %q lacks %s", config.Env, want)
			}
		}
		chain := config.Env[slices.IndexFunc(config.Env, func(e string) bool { return strings.HasPrefix(e, "WAVE_ENTRY_CHAIN=") })]
		if !slices.Equal(config.Entrypoint, []string{"/wrap/two"}) || !strings.HasSuffix(chain, `"/wrap/one"]`) || !strings.Contains(chain, `/bin/sh`) {
			t.Errorf("entrypoint %q, %s: want the second wrapper, the first one and the base's entrypoint", config.Entrypoint, chain)
		}
	})
	t.Run("the same again is the same image", func(t *testing.T) {
		again := p.Augment(t, harness.Request{ContainerImage: first.TargetImage, ContainerConfig: &harness.Config{
			Env: []string{"A=1", "B=1"}, Entrypoint: []string{"/wrap/one"}, Layers: []harness.Layer{one}}})
		plain := p.Augment(t, harness.Request{ContainerImage: first.TargetImage})
		if again.TargetDigest != first.TargetDigest || plain.TargetDigest != first.TargetDigest {
			t.Errorf("digests %s and %s, want %s", again.TargetDigest, plain.TargetDigest, first.TargetDigest)
		}
	})
	t.Run("recipes", func(t *testing.T) {
		for _, name := range []string{"library/busybox:docker", "docker.io/library/busybox:docker", "v2/library/busybox:docker", "team.test/library/busybox:docker"} {
			a := p.Augment(t, harness.Request{ContainerImage: host + "/wt/scripts/" + name, ContainerConfig: &harness.Config{Env: []string{"A=1"}, Layers: []harness.Layer{two}}})
			img := harness.Pull(t, a.TargetImage, "amd64")
			config, files := harness.MustConfig(t, img).Config, harness.Files(t, img)
			if files["opt/scripts/hello"] == "" || files["srv/two"] != "2" || !slices.Contains(config.Env, "GREETING=hello") || !slices.Contains(config.Env, "A=1") {
				t.Errorf("%s: environment %q, files %v", name, config.Env, files)
			}
		}
		// By digest: of what the recipe made, and of the upstream, which it leaves alone.
		root, _ := harness.NamedManifest(t, p, "scripts/library/busybox", "docker")
		made := p.Augment(t, harness.Request{ContainerImage: host + "/wt/scripts/library/busybox@" + root})
		if made.TargetDigest != root {
			t.Errorf("the image %s of the recipe became %s", root, made.TargetDigest)
		}
		untouched := p.Augment(t, harness.Request{ContainerImage: host + "/wt/scripts/library/busybox@" + made.SourceDigest})
		if untouched.TargetDigest != made.SourceDigest {
			t.Errorf("the upstream's image %s became %s", made.SourceDigest, untouched.TargetDigest)
		}
	})
	t.Run("included", func(t *testing.T) {
		a := p.Augment(t, map[string]any{"containerImage": "busybox:docker", "containerIncludes": []string{first.TargetImage, host + "/wt/scripts/busybox:docker"}})
		files := harness.Files(t, harness.Pull(t, a.TargetImage, "amd64"))
		if files["srv/one"] != "1" || files["opt/scripts/hello"] == "" {
			t.Errorf("files: %v", files)
		}
	})
	t.Run("inspected", func(t *testing.T) {
		for name, want := range map[string][]string{
			first.TargetImage:                   {`"hostName":"` + p.URL + `"`, `"digest":"` + first.TargetDigest, `"/wrap/one"`, `"A=1"`},
			host + "/wt/scripts/busybox:docker": {`"GREETING=hello"`, `"hostName":"` + p.URL + `"`},
		} {
			resp := p.Post(t, "/v1alpha1/inspect", map[string]any{"containerImage": name})
			for _, text := range want {
				if !strings.Contains(resp.Body, text) {
					t.Errorf("inspect %s: %d %s: want %s", name, resp.Status, resp.Body, text)
				}
			}
		}
	})
	t.Run("refused", func(t *testing.T) {
		revoked := p.Augment(t, harness.Request{ContainerImage: "busybox:docker", ContainerConfig: &harness.Config{Env: []string{"GONE=1"}}})
		if err := revoke(t, p, revoked.ContainerToken); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]struct {
			status int
			says   string
		}{
			revoked.TargetImage: {http.StatusForbidden, "token revoked"},
			strings.Replace(first.TargetImage, token, harness.FlipBit(token), 1):       {http.StatusNotFound, "unknown token"},
			strings.Replace(first.TargetImage, ":entry", ":docker", 1):                 {http.StatusNotFound, "not for the tag docker"},
			strings.Replace(first.TargetImage, "busybox", "alpine", 1):                 {http.StatusForbidden, "this token is for the image library/busybox"},
			strings.TrimSuffix(first.TargetImage, ":entry") + "@" + first.SourceDigest: {http.StatusNotFound, "leave the digest out"},
			host + "/wt/nosuch/library/busybox:docker":                                 {http.StatusNotFound, "no such recipe"},
			host + "/library/busybox:docker":                                           {http.StatusBadRequest, "this is the host of this server"},
			host + "/wt/" + token:                                                      {http.StatusBadRequest, "this is the host of this server"},
			host + "/wt/scripts/gone.invalid/x:1":                                      {harness.UnresolvedStatus(), ""},
		} {
			for path, body := range map[string]any{
				"/v1alpha2/container": harness.Request{ContainerImage: name},
				"/v1alpha1/inspect":   map[string]any{"containerImage": name},
			} {
				resp := p.Post(t, path, body)
				if resp.Status != want.status || !strings.Contains(resp.Body, want.says) || strings.Contains(resp.Body, token) {
					t.Errorf("%s %s: %d %s: want %d and %q", path, name, resp.Status, resp.Body, want.status, want.says)
				}
			}
			included := p.Post(t, "/v1alpha2/container", map[string]any{"containerImage": "busybox:docker", "containerIncludes": []string{name}})
			if included.Status != want.status || !strings.Contains(included.Body, "containerIncludes[0]") {
				t.Errorf("included %s: %d %s", name, included.Status, included.Body)
			}
		}
	})
	if strings.Contains(p.Log.String(), `"agent":"waveproxy/`) {
		t.Errorf("the server asked itself:\n%s", p.Log.String())
	}
}

func revoke(t *testing.T, p *harness.Proxy, token string) error {
	t.Helper()
	_, stderr, err := harness.Run(t, []string{"WAVEPROXY_STORAGE_DIR=" + p.Dir}, "token", "revoke", token)
	if err != nil {
		return fmt.Errorf("%w: %s", err, stderr)
	}
	return nil
}
