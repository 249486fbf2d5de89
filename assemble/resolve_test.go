package assemble

import (
	"errors"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/augment/archivetest"
	"github.com/waveproxy/waveproxy/upstream"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// TestResolve counts the requests and looks for every byte of the grant among its parts.
func TestResolve(t *testing.T) {
	f := newFixture(t)
	base := f.registry.PushImage(t, "library/base", "amd64", []archivetest.File{{Name: "etc/base"}}, "1")
	staged, recipe := f.staged(t, "opt/added")
	added := recipe.Layers[0].Digest
	if f.stored(t, added) {
		t.Error("the layer is in the store before its image is good")
	}
	grant, err := f.resolver.Resolve(t.Context(), ImageRequest{Identity: "ann", Ref: parse(t, "base:1"), Recipe: recipe, Staged: staged})
	if err != nil {
		t.Fatal(err)
	}
	f.registry.WantRequests(t, "GET "+upstreamtest.ManifestPath("library/base", "1"), "GET "+upstreamtest.BlobPath("library/base", base.Config.Digest()),
		"GET "+upstreamtest.BlobPath("library/base", base.Layer.Digest()))
	if grant.Base != base.Manifest.Digest() || grant.Tag != "1" || grant.Identity != "ann" || grant.Image != "docker.io/library/base" || grant.Root.Digest == grant.Base {
		t.Errorf("grant %+v", grant)
	}
	all := append(append(grant.Objects, grant.Injected...), grant.Root.Digest, added)
	if slices.ContainsFunc(all, func(d digest.Digest) bool { return f.stored(t, d) }) {
		t.Error("a blob has a file of its own")
	}
	if err := f.store.PutPack(t.Context(), "until/2126-01-01/grants/0a", nil, grant.Parts); err != nil {
		t.Fatal(err) // the parts are verified
	}
	for _, d := range all {
		if !f.stored(t, d) {
			t.Errorf("%s is not stored with the grant", d)
		}
	}
	if f.stored(t, base.Layer.Digest()) {
		t.Error("the base image's layer was stored")
	}
}

func TestResolveIndex(t *testing.T) {
	f := newFixture(t)
	base := f.registry.PushIndex(t, "library/base", "1", "text", "amd64", "arm64")
	staged, recipe := f.staged(t, "opt/added")
	arm := []ocispec.Platform{{OS: "linux", Architecture: "arm64"}}
	if _, err := f.resolver.Resolve(t.Context(), ImageRequest{Ref: parse(t, "base:1"), Recipe: recipe, Platforms: arm, Staged: staged}); err != nil {
		t.Fatal(err)
	}
	f.registry.WantAnyOrder(t, "GET "+upstreamtest.ManifestPath("library/base", "1"),
		"GET "+upstreamtest.ManifestPath("library/base", base.Images[1].Manifest.Digest().String()),
		"GET "+upstreamtest.BlobPath("library/base", base.Images[1].Config.Digest()),
		"GET "+upstreamtest.BlobPath("library/base", base.Images[1].Layer.Digest()))
}

// TestLayersThatDoNotMatter: no layer of the base is read for files at the root.
func TestLayersThatDoNotMatter(t *testing.T) {
	f := newFixture(t)
	base := f.registry.PushImage(t, "library/base", "amd64", []archivetest.File{{Name: "etc/base"}}, "1")
	staged, recipe := f.staged(t, "added")
	if _, err := f.resolver.Resolve(t.Context(), ImageRequest{Ref: parse(t, "base:1"), Recipe: recipe, Staged: staged}); err != nil {
		t.Fatal(err)
	}
	f.registry.WantRequests(t, "GET "+upstreamtest.ManifestPath("library/base", "1"), "GET "+upstreamtest.BlobPath("library/base", base.Config.Digest()))
}

// TestBasesAreRemembered: no request is repeated for the same identity and
// repository. Another identity or repository makes requests of its own.
func TestBasesAreRemembered(t *testing.T) {
	f := newFixture(t)
	base := f.registry.PushImage(t, "library/base", "amd64", nil, "1")
	f.registry.PushImage(t, "library/other", "amd64", nil, "1")
	// The layer is read once. Others show with a HEAD that they may read it, too.
	asks := func(repository, method string) []string {
		return []string{"GET " + upstreamtest.ManifestPath(repository, "1"), "GET " + upstreamtest.BlobPath(repository, base.Config.Digest()),
			method + " " + upstreamtest.BlobPath(repository, base.Layer.Digest())}
	}
	resolve := func(identity, name string, want ...string) {
		t.Helper()
		staged, recipe := f.staged(t, "opt/added")
		if _, err := f.resolver.Resolve(t.Context(), ImageRequest{Identity: identity, Ref: parse(t, name), Recipe: recipe, Staged: staged}); err != nil {
			t.Fatal(err)
		}
		f.registry.WantRequests(t, want...)
	}
	resolve("ann", "base:1", asks("library/base", "GET")...)
	resolve("ann", "base:1")
	resolve("bob", "base:1", asks("library/base", "HEAD")...)
	resolve("ann", "other:1", asks("library/other", "HEAD")...)

	// The tag moves: the remembered one is used for a moment, or until Digest has seen
	// the move.
	moved := f.registry.PushImage(t, "library/base", "amd64", []archivetest.File{{Name: "etc/moved"}}, "1")
	resolve("ann", "base:1")
	target, _, _ := f.resolver.locate("ann", parse(t, "base:1"))
	if d, err := f.resolver.Digest(t.Context(), target, "1"); err != nil || d != moved.Manifest.Digest() {
		t.Errorf("digest %s, %v", d, err)
	}
	f.registry.WantRequests(t, "HEAD "+upstreamtest.ManifestPath("library/base", "1"))
	resolve("ann", "base:1", "GET "+upstreamtest.ManifestPath("library/base", "1"), "GET "+upstreamtest.BlobPath("library/base", moved.Config.Digest()),
		"GET "+upstreamtest.BlobPath("library/base", moved.Layer.Digest()))
	resolve("ann", "base@"+base.Manifest.Digest().String(), "GET "+upstreamtest.ManifestPath("library/base", base.Manifest.Digest().String()))
	resolve("ann", "base:other@"+base.Manifest.Digest().String())
}

// TestResolveRefuses: an image that cannot be made leaves nothing in the store.
func TestResolveRefuses(t *testing.T) {
	f := newFixture(t)
	f.registry.PutManifest("library/base", upstreamtest.Object{MediaType: ocispec.MediaTypeImageManifest, Data: []byte("{")}, "broken")
	for _, name := range []string{"base:absent", "base:broken"} {
		staged, recipe := f.staged(t, "opt/added")
		_, err := f.resolver.Resolve(t.Context(), ImageRequest{Ref: parse(t, name), Recipe: recipe, Staged: staged})
		_, refused := errors.AsType[*augment.Error](err)
		_, absent := errors.AsType[*upstream.Error](err)
		if !refused && !absent {
			t.Errorf("%s: error %v", name, err)
		}
		if f.stored(t, recipe.Layers[0].Digest) {
			t.Errorf("%s: its layer is in the store", name)
		}
	}
}

func TestInspect(t *testing.T) {
	f := newFixture(t)
	single := f.registry.PushImage(t, "library/base", "amd64", nil, "1")
	index := f.registry.PushIndex(t, "library/many", "1", "text", "amd64", "arm64")
	for name, test := range map[string]struct {
		ref              string
		platforms        []ocispec.Platform
		root             digest.Digest
		manifest, config digest.Digest
	}{
		"manifest":              {"base:1", nil, single.Manifest.Digest(), single.Manifest.Digest(), single.Config.Digest()},
		"index":                 {"many:1", nil, index.Index.Digest(), "", ""},
		"index with a platform": {"many:1", []ocispec.Platform{{OS: "linux", Architecture: "arm64"}}, index.Index.Digest(), index.Images[1].Manifest.Digest(), index.Images[1].Config.Digest()},
	} {
		t.Run(name, func(t *testing.T) {
			in, err := f.resolver.Inspect(t.Context(), "", parse(t, test.ref), test.platforms)
			if err != nil {
				t.Fatal(err)
			}
			if in.Host != f.registry.URL || in.Root.Digest != test.root {
				t.Errorf("host %s, root %s", in.Host, in.Root.Digest)
			}
			var manifest, config digest.Digest
			if in.Manifest != nil {
				manifest, config = in.Manifest.Digest, in.Config.Digest
			}
			if manifest != test.manifest || config != test.config {
				t.Errorf("manifest %s, config %s, want %s, %s", manifest, config, test.manifest, test.config)
			}
		})
	}
	if _, err := f.resolver.Inspect(t.Context(), "", parse(t, "many:1"), []ocispec.Platform{{OS: "linux", Architecture: "s390x"}}); err == nil {
		t.Error("a platform that the index has not is found")
	}
}

// TestInclude takes in the layers of the wanted platform, once.
func TestInclude(t *testing.T) {
	f := newFixture(t)
	index := f.registry.PushIndex(t, "library/tools", "1", "text", "amd64", "arm64")
	arm := []ocispec.Platform{{OS: "linux", Architecture: "arm64"}}
	want := index.Images[1].Layer.Digest()
	for i := range 2 {
		layers, err := f.resolver.IncludedLayers(t.Context(), "ann", parse(t, "tools:1"), arm)
		if err != nil {
			t.Fatal(err)
		}
		if len(layers) != 1 || layers[0].Digest != want || layers[0].Platform != "linux/arm64" || !f.stored(t, want) {
			t.Errorf("layers %+v", layers)
		}
		if n := len(f.registry.TakeRequests()); i == 0 && n != 4 || i == 1 && n != 0 {
			t.Errorf("time %d: %d requests", i, n)
		}
	}
}
