package registry

import (
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/upstream"
)

// TestPolicyAtEveryPull: what a token was made for is judged again at every request,
// by the policy in force: the image, and where its layers came from.
func TestPolicyAtEveryPull(t *testing.T) {
	f := newFixture(t)
	manifest := strings.Replace(f.blobURL(f.grant.Root.Digest), "/blobs/", "/manifests/", 1)
	urls := []string{
		manifest, f.blobURL(f.layer.Digest), f.url(), f.blobURL(f.grant.Objects[len(f.grant.Objects)-1]),
		strings.Replace(f.blobURL(f.grant.Root.Digest), "/blobs/", "/referrers/", 1),
	}
	for _, test := range []struct {
		name, deny, location string
		denied               bool
	}{
		{"nothing denied", "quay.io", "", false},
		{"the image", "docker.io/library/*", "", true},
		{"an included image", "quay.io/team/*", "docker://quay.io/v2/team/tool/blobs/sha256:0", true},
		{"another image", "quay.io/team/*", "docker://quay.io/v2/other/tool/blobs/sha256:0", false},
		{"a layer's registry", "quay.io", "https://quay.io:0443/layer.tar", true},
		{"a layer's repository", "quay.io/team/*", "https://quay.io/v2/team/tool/blobs/sha256:0", true},
		{"where a layer's redirect led", "quay.io/team/*", "https://files.example/layer.tar https://quay.io/v2/team/tool/blobs/sha256:0", true},
		{"a file of the caller's", "quay.io", "", false},
	} {
		p, err := auth.ParsePattern(test.deny)
		if err != nil {
			t.Fatal(err)
		}
		client, err := upstream.New(upstream.Options{Deny: []auth.Pattern{p}, Registries: map[string]upstream.Registry{"docker.io": {URL: f.upstream.URL}}})
		if err != nil {
			t.Fatal(err)
		}
		grant := f.grant
		layer := f.layer
		location, via, redirected := strings.Cut(test.location, " ")
		if layer.Location = location; redirected {
			layer.Via = []string{via}
		}
		grant.Recipe.Layers = []augment.Layer{layer}
		o := f.server.options
		o.Upstream, o.Tokens = client, fakeTokens{&grant}
		*f.server = *New(o)
		for _, url := range urls {
			resp, body, err := f.do(t, "GET", url)
			if err != nil {
				t.Fatal(err)
			}
			if denied := resp.StatusCode == 403 && strings.Contains(string(body), "upstreams.deny"); denied != test.denied || !denied && resp.StatusCode != 200 {
				t.Errorf("%s: GET %s: %d %.200s", test.name, url[strings.Index(url, "/library"):], resp.StatusCode, body)
			}
		}
		client.CloseIdleConnections()
	}
}
