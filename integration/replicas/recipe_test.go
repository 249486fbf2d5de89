package replicas

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// movingTag pushes busybox in its forms, and returns how to move its tag "moving", which is
// that of the form "docker" at first.
func movingTag(t *testing.T, registry string) (move func(to string)) {
	t.Helper()
	upstream.Push(t, registry, "busybox:docker", "busybox:oci", "busybox:multi", "busybox:entry")
	move = func(to string) {
		if err := crane.Tag(registry+"/library/busybox:"+to, "moving", crane.Insecure); err != nil {
			t.Fatal(err)
		}
	}
	move("docker")
	return move
}

// TestRecipeReplicas pulls through nginx from two servers that share a storage,
// while a tag moves and a server is killed. Both serve every image that one has
// advertised.
func TestRecipeReplicas(t *testing.T) {
	t.Parallel()
	nginx, ok := findNginx(t)
	if !ok {
		return
	}
	reg := upstream.Registry(t)
	move := movingTag(t, reg.Host)
	certificate, key, _ := harness.SelfSigned(t)
	settings := harness.WithScripts(t, reg)
	r := startReplicas(t, nginx, settings, certificate, key)
	address := r.two.Address(t)
	tags := []string{"moving", "oci", "multi", "entry"}
	// Includes the servers themselves, because nginx may send all requests of one
	// client to one server.
	from := []string{r.URL, r.one.URL, "http://" + address}
	from[1] = "http://" + r.one.Address(t)
	var advertised sync.Map // digests by tag
	pulls := func(n int, servers []string) {
		t.Helper()
		var wg sync.WaitGroup
		for worker := range 8 {
			wg.Go(func() {
				for i := worker; i < n; i += 8 {
					tag := tags[i%len(tags)]
					root, err := pullThrough(t, servers, tag)
					if err != nil {
						t.Errorf("pull %d, %s: %v", i, tag, err)
						continue
					}
					seen, _ := advertised.LoadOrStore(tag, &sync.Map{})
					seen.(*sync.Map).Store(root, true)
				}
			})
		}
		wg.Wait()
	}
	count := func(tag string) (n int) {
		if seen, ok := advertised.Load(tag); ok {
			seen.(*sync.Map).Range(func(any, any) bool { n++; return true })
		}
		return n
	}
	pulls(200, from)
	move("oci")
	time.Sleep(harness.TagLife)
	pulls(100, from)
	if n := count("moving"); n != 2 {
		t.Errorf("the tag that moved was seen as %d images, want 2", n)
	}
	r.two.Kill()
	pulls(100, []string{r.URL, from[1]})
	settings["WAVEPROXY_HTTP_ADDR"] = address
	harness.StartProxy(t, r.Dir, settings)
	pulls(100, from)
	for _, server := range from[1:] {
		advertised.Range(func(tag, seen any) bool {
			seen.(*sync.Map).Range(func(root, _ any) bool {
				resp := harness.Do(t, http.MethodGet, server+"/v2/wt/scripts/library/busybox/manifests/"+root.(string))
				if got := harness.Sum([]byte(resp.Body)); resp.Status != http.StatusOK || got != root {
					t.Errorf("%s of %s at %s: status %d, digest %s", root, tag, server, resp.Status, got)
				}
				return true
			})
			return true
		})
	}
}

// pullThrough pulls an image as an engine does, each request from a random
// server: HEAD by tag, then manifests and blobs by digest.
func pullThrough(t *testing.T, servers []string, tag string) (root string, err error) {
	ask := func(method, path string) (harness.Response, error) {
		p := harness.Proxy{URL: servers[rand.IntN(len(servers))]}
		resp, err := p.Call(t.Context(), method, "/v2/wt/scripts/library/busybox/"+path, "")
		if err == nil && resp.Status != http.StatusOK {
			err = fmt.Errorf("%s %s at %s: status %d: %s", method, path, p.URL, resp.Status, resp.Body)
		}
		return resp, err
	}
	head, err := ask(http.MethodHead, "manifests/"+tag)
	if err != nil {
		return "", err
	}
	root = head.Header.Get("Docker-Content-Digest")
	for want := root; ; {
		resp, err := ask(http.MethodGet, "manifests/"+want)
		if err != nil {
			return "", err
		}
		if got := harness.Sum([]byte(resp.Body)); got != want {
			return "", fmt.Errorf("%s has the digest %s", want, got)
		}
		var m struct {
			ocispec.Manifest
			Manifests []ocispec.Descriptor
		}
		if err := json.Unmarshal([]byte(resp.Body), &m); err != nil {
			return "", err
		}
		if len(m.Manifests) > 0 {
			want = m.Manifests[rand.IntN(len(m.Manifests))].Digest.String()
			continue
		}
		for _, d := range append(m.Layers, m.Config) {
			blob, err := ask(http.MethodGet, "blobs/"+d.Digest.String())
			if err != nil {
				return "", err
			}
			if got := harness.Sum([]byte(blob.Body)); got != d.Digest.String() {
				return "", fmt.Errorf("%s has the digest %s", d.Digest, got)
			}
		}
		return root, nil
	}
}
