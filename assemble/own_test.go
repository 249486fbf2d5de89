package assemble

import (
	"encoding/json"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// TestInspectNamed: what an inspection of a recipe's image shows is what a pull gives:
// the image that is made, or the upstream's where the recipe lets it pass.
func TestInspectNamed(t *testing.T) {
	f := newFixture(t)
	many := f.registry.PushIndex(t, "library/many", "1", "text", "amd64", "arm64").Index.Digest()
	arm := f.registry.PushImage(t, "library/arm", "arm64", nil, "1").Manifest.Digest()
	put := func(tag string, doc map[string]any) digest.Digest {
		data, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		return f.registry.PutManifest("library/odd", upstreamtest.Object{MediaType: doc["mediaType"].(string), Data: data}, tag).Digest()
	}
	signature := f.registry.PutBlob("library/odd", upstreamtest.Object{MediaType: "application/vnd.dev.cosign.simplesigning.v1+json", Data: []byte("{}")}).Descriptor()
	signed := put("signature", map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "config": signature, "layers": []any{signature}})
	listed := put("list", map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageIndex, "manifests": []any{
		map[string]any{"mediaType": ocispec.MediaTypeImageManifest, "digest": signed, "size": 400, "artifactType": "application/example"}}})
	amd64 := augment.Layer{Digest: digest.FromString("layer"), Platform: "linux/amd64"}
	forRISC := augment.Layer{Digest: digest.FromString("layer"), Platform: "linux/riscv64"}
	for name, test := range map[string]struct {
		ref    string
		recipe augment.Recipe
		root   digest.Digest // "": what is made, or nothing
		fails  bool
	}{
		"made":                       {"many:1", augment.Recipe{Env: []string{"A=1"}}, "", false},
		"plain, for another machine": {"arm:1", augment.Recipe{Layers: []augment.Layer{amd64}, Plain: true}, arm, false},
		"plain, for no machine":      {"many:1", augment.Recipe{Layers: []augment.Layer{forRISC}, Plain: true}, many, false},
		"for another machine":        {"arm:1", augment.Recipe{Layers: []augment.Layer{amd64}}, "", true},
		"list of artifacts":          {"odd:list", augment.Recipe{Env: []string{"A=1"}}, listed, false},
		"artifact":                   {"odd:signature", augment.Recipe{Env: []string{"A=1"}}, "", true}, // it has no config to show
		"absent":                     {"many:2", augment.Recipe{Env: []string{"A=1"}, Plain: true}, "", true},
	} {
		in, err := f.resolver.InspectNamed(t.Context(), "", parse(t, test.ref), test.recipe, nil)
		if (err != nil) != test.fails {
			t.Errorf("%s: error %v", name, err)
			continue
		}
		if test.root != "" && in.Root.Digest != test.root || test.root == "" && (in.Root.Digest == many || in.Root.Digest == "") && !test.fails {
			t.Errorf("%s: %s is inspected, want %s", name, in.Root.Digest, test.root)
		}
	}
}
