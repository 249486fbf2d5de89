package attack

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// tenantImage is an image of a tenant and every digest that its token opens.
type tenantImage struct {
	harness.Answer
	name             string // its repository, without the registry
	manifests, blobs []string
}

// openImage submits an image for a tenant and looks up the digests of its parts.
func openImage(t *testing.T, p *harness.Proxy, tenant, image string, c *harness.Config) tenantImage {
	t.Helper()
	r := p.Post(t, submission, map[string]any{"containerImage": image, "containerConfig": c, "towerAccessToken": tenant})
	a, err := r.Answer()
	if err != nil || !a.Succeeded {
		t.Fatalf("%v: %d %s", err, r.Status, r.Body)
	}
	name, _, _ := strings.Cut(a.TargetImage[strings.Index(a.TargetImage, a.ContainerToken)+len(a.ContainerToken)+1:], ":")
	opened := tenantImage{Answer: a, name: name}
	for queue := []string{a.TargetDigest}; len(queue) > 0; queue = queue[1:] {
		status, body := harness.Get(t, opened.url(p, 0, "manifests/"+queue[0]))
		var document struct {
			Config            described
			Manifests, Layers []described
		}
		if err := json.Unmarshal([]byte(body), &document); err != nil || status != http.StatusOK {
			t.Fatalf("manifest %s: %v: %d %s", queue[0], err, status, body)
		}
		opened.manifests = append(opened.manifests, queue[0])
		for _, d := range document.Manifests {
			queue = append(queue, d.Digest)
		}
		for _, d := range append(document.Layers, document.Config) {
			if d.Digest != "" {
				opened.blobs = append(opened.blobs, d.Digest)
			}
		}
	}
	return opened
}

// url returns the URL of a resource with the image's token, in one of the two
// forms of paths.
func (i tenantImage) url(p *harness.Proxy, form int, resource string) string {
	return i.as(p, form, i.name, resource)
}

func (i tenantImage) as(p *harness.Proxy, form int, name, resource string) string {
	return p.URL + fmt.Sprintf([]string{"/v2/wt/%s/%s/%s", "/wt/%s/v2/%s/%s"}[form], i.ContainerToken, name, resource)
}

// TestAttackForeignDigests uses the token of one image to request every part of
// other images: of other names, recipes and tenants. Each part is in the store or
// one upstream request away.
func TestAttackForeignDigests(t *testing.T) {
	t.Parallel()
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci", "busybox:entry", "busybox:multi")
	harness.PushAliases(t, reg, "busybox:docker", "team/private:1")
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	secret := func(of string) *harness.Config {
		return &harness.Config{Env: []string{"OF=" + of}, Layers: []harness.Layer{harness.LayerOf(t, harness.File{Name: "secret", Mode: 0o600, Text: of})}}
	}
	images := map[string]tenantImage{
		"mine":             openImage(t, p, "me", "busybox:oci", secret("mine")),
		"my other tag":     openImage(t, p, "me", "busybox:entry", secret("my other tag")),
		"my other recipe":  openImage(t, p, "me", "busybox:oci", secret("my other recipe")),
		"my index":         openImage(t, p, "me", "busybox:multi", secret("my index")),
		"another tenant's": openImage(t, p, "owner", "busybox:oci", secret("another tenant's")),
		"another image":    openImage(t, p, "owner", "team/private:1", secret("another image")),
	}
	for name, own := range images {
		t.Run(name, func(t *testing.T) {
			mine := map[string]bool{}
			for _, d := range append(own.manifests, own.blobs...) {
				mine[d] = true
			}
			reg.Reset()
			for whose, other := range images {
				for form := range 2 {
					// A token opens no other name, whatever the digest.
					if other.name != own.name {
						for _, resource := range []string{"manifests/" + other.TargetDigest, "manifests/1", "blobs/" + other.blobs[0], "tags/list", "referrers/" + other.TargetDigest} {
							harness.WantRegistryError(t, whose+" by its name", harness.Do(t, http.MethodGet, own.as(p, form, other.name, resource)), http.StatusForbidden, "DENIED")
						}
					}
					for _, d := range other.manifests {
						harness.WantRegistryError(t, whose+" manifest as a blob", harness.Do(t, http.MethodGet, own.url(p, form, "blobs/"+d)), http.StatusNotFound, "BLOB_UNKNOWN")
						if !mine[d] {
							harness.WantRegistryError(t, whose+" manifest", harness.Do(t, http.MethodGet, own.url(p, form, "manifests/"+d)), http.StatusNotFound, "MANIFEST_UNKNOWN")
						}
					}
					for _, d := range other.blobs {
						harness.WantRegistryError(t, whose+" blob as a manifest", harness.Do(t, http.MethodGet, own.url(p, form, "manifests/"+d)), http.StatusNotFound, "MANIFEST_UNKNOWN")
						if mine[d] {
							continue
						}
						for _, header := range [][]string{{}, {"Range", "bytes=0-"}, {"If-None-Match", `"` + d + `"`}, {"If-None-Match", "*"}} {
							harness.WantRegistryError(t, whose+" blob", harness.Do(t, http.MethodGet, own.url(p, form, "blobs/"+d), header...), http.StatusNotFound, "BLOB_UNKNOWN")
						}
						if head := harness.Do(t, http.MethodHead, own.url(p, form, "blobs/"+d), "If-None-Match", "*"); head.Status != http.StatusNotFound || head.Header.Get("Docker-Content-Digest") != "" {
							t.Errorf("HEAD of %s blob: %d %v", whose, head.Status, head.Header)
						}
					}
				}
			}
			if requests := reg.Requests(); len(requests) != 0 {
				t.Errorf("BREACH: the server requested %q from the upstream", requests)
			}
			for _, d := range own.manifests {
				wantStatus(t, "own manifest", harness.Do(t, http.MethodGet, own.url(p, 1, "manifests/"+d)), http.StatusOK)
			}
			for _, d := range own.blobs {
				wantStatus(t, "own blob", harness.Do(t, http.MethodGet, own.url(p, 1, "blobs/"+d)), http.StatusOK)
			}
		})
	}
	t.Run("base images", func(t *testing.T) {
		own := images["mine"]
		for name, base := range map[string]string{"its own": own.SourceDigest, "another's": images["another image"].SourceDigest} {
			for form := range 2 {
				status, code := http.StatusNotFound, "MANIFEST_UNKNOWN"
				if name == "its own" {
					status, code = http.StatusForbidden, "DENIED"
				}
				harness.WantRegistryError(t, name, harness.Do(t, http.MethodGet, own.url(p, form, "manifests/"+base)), status, code)
				harness.WantRegistryError(t, name, harness.Do(t, http.MethodGet, own.url(p, form, "blobs/"+base)), http.StatusNotFound, "BLOB_UNKNOWN")
			}
		}
	})
}

func wantStatus(t *testing.T, what string, r harness.Response, status int) {
	t.Helper()
	if r.Status != status {
		t.Errorf("%s: status %d, want %d: %.300s", what, r.Status, status, r.Body)
	}
}

// TestAttackKnownDigest: a tenant that knows the digest of another tenant's layer
// does not get the layer into an image by it.
func TestAttackKnownDigest(t *testing.T) {
	t.Parallel()
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	secret := harness.LayerOf(t, harness.File{Name: "secret", Mode: 0o600, Text: "of the owner"})
	harness.PushLayers(t, reg, "owner/private:1", secret)
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/secret.tar.gz" || r.URL.RawQuery != "signature=good" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(secret.Archive)
	}))
	t.Cleanup(origin.Close)
	p := harness.StartProxy(t, "", map[string]string{"WAVEPROXY_REGISTRIES": fmt.Sprintf(`{docker.io: {url: %q}, %q: {plain_http: true}}`,
		reg.URL, strings.TrimPrefix(origin.URL, "http://"))})
	at := func(location string) map[string]any {
		l := secret
		l.Location = location
		return map[string]any{"containerImage": "busybox:oci", "containerConfig": harness.Config{Layers: []harness.Layer{l}}}
	}
	blob := "/blobs/" + secret.GzipDigest
	wantStatus(t, "the owner's URL", p.Post(t, submission, at(origin.URL+"/secret.tar.gz?signature=good")), http.StatusOK)
	wantStatus(t, "the owner's image", p.Post(t, submission, at("docker://docker.io/v2/owner/private"+blob)), http.StatusOK)
	for name, test := range map[string]struct {
		location string
		status   int
	}{
		"the URL without its signature":  {origin.URL + "/secret.tar.gz", http.StatusNotFound},
		"the URL with another signature": {origin.URL + "/secret.tar.gz?signature=bad", http.StatusNotFound},
		"another URL of the same host":   {origin.URL + "/other.tar.gz", http.StatusNotFound},
		"another repository":             {"docker://docker.io/v2/library/busybox" + blob, http.StatusNotFound},
		"no bytes at all":                {"data:", http.StatusBadRequest},
		"a way out of the repository":    {"docker://docker.io/v2/owner/private/../../library/busybox" + blob, http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			r := p.Post(t, submission, at(test.location))
			wantStatus(t, name, r, test.status)
			harness.WantMessage(t, r.Body, "containerConfig.layers[0]")
		})
	}
}

// TestAttackPrivateLayer: a private layer that one identity took in by a docker://
// location is no layer for an identity without credentials.
func TestAttackPrivateLayer(t *testing.T) {
	t.Parallel()
	public := upstream.Registry(t)
	upstream.Push(t, public.Host, "busybox:oci")
	secret := harness.LayerOf(t, harness.File{Name: "secret", Mode: 0o600, Text: "of a"})
	password := harness.SecretFor("private-layer")
	private := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, given, _ := r.BasicAuth(); given != password {
			w.Header().Set("Www-Authenticate", `Basic realm="private"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write(secret.Archive)
	}))
	t.Cleanup(private.Close)
	host := strings.TrimPrefix(private.URL, "http://")
	keys := map[string]string{"a": harness.SecretFor("layer-a"), "b": harness.SecretFor("layer-b")}
	p := harness.StartProxy(t, "", map[string]string{
		"WAVEPROXY_REGISTRIES":     fmt.Sprintf(`{docker.io: {url: %q}, %q: {plain_http: true}}`, public.URL, host),
		"WAVEPROXY_CREDENTIALS":    fmt.Sprintf(`{a: {registries: {%q: {username: ci, password: %q}}}}`, host, password),
		"WAVEPROXY_API_AUTH":       "bearer",
		"WAVEPROXY_API_TOKENS":     fmt.Sprintf(`{a: {token: %q}, b: {token: %q}}`, keys["a"], keys["b"]),
		"WAVEPROXY_API_IDENTITIES": `{a: {credentials: [a]}, b: {credentials: []}}`,
	})
	layer := secret
	layer.Location = "docker://" + host + "/v2/team/private/blobs/" + secret.GzipDigest
	body := string(harness.MustJSON(t, map[string]any{"containerImage": "busybox:oci", "containerConfig": harness.Config{Layers: []harness.Layer{layer}}}))
	for _, q := range []struct {
		identity string
		status   int
	}{{"b", http.StatusForbidden}, {"a", http.StatusOK}, {"b", http.StatusForbidden}, {"a", http.StatusOK}} {
		r, err := p.Call(t.Context(), http.MethodPost, submission, body, "Authorization", "Bearer "+keys[q.identity])
		if err != nil {
			t.Fatal(err)
		}
		wantStatus(t, "identity "+q.identity, r, q.status)
	}
}
