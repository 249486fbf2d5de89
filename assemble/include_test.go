package assemble

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/augment/archivetest"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// pushMany serves an index of images, all of which have the layers.
func pushMany(t *testing.T, r *upstreamtest.Registry, tag string, images int, layers []ocispec.Descriptor, diffID digest.Digest) {
	t.Helper()
	var index ocispec.Index
	index.Versioned, index.MediaType = specs.Versioned{SchemaVersion: 2}, ocispec.MediaTypeImageIndex
	for i := range images {
		platform := ocispec.Platform{OS: "linux", Architecture: fmt.Sprint("a", i)}
		config := r.PutBlob("library/many", upstreamtest.JSON(t, ocispec.MediaTypeImageConfig, ocispec.Image{
			Platform: platform, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: slices.Repeat([]digest.Digest{diffID}, len(layers))},
		}))
		desc := r.PutManifest("library/many", upstreamtest.JSON(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
			Versioned: index.Versioned, MediaType: ocispec.MediaTypeImageManifest, Config: config.Descriptor(), Layers: layers,
		})).Descriptor()
		desc.Platform = &platform
		index.Manifests = append(index.Manifests, desc)
	}
	r.PutManifest("library/many", upstreamtest.JSON(t, ocispec.MediaTypeImageIndex, index), tag)
}

// TestManyIncluded: an image of 20 platforms with 25 layers each may be included and gets
// a token, and one with more than MaxIncluded layers is refused before one is fetched.
func TestManyIncluded(t *testing.T) {
	f := newFixture(t)
	plain := archivetest.Tar(t, archivetest.File{Name: "opt/added", Mode: 0o644})
	layer := f.registry.PutBlob("library/many", upstreamtest.Object{MediaType: ocispec.MediaTypeImageLayerGzip, Data: archivetest.Gzip(t, plain)})
	push := func(tag string, images, layers int) {
		t.Helper()
		pushMany(t, f.registry, tag, images, slices.Repeat([]ocispec.Descriptor{layer.Descriptor()}, layers), digest.FromBytes(plain))
	}
	push("20", 20, 25)
	push("5", 5, 125)
	layers, err := f.resolver.IncludedLayers(t.Context(), "", parse(t, "many:20"), nil)
	if err != nil || len(layers) != 500 {
		t.Errorf("20 platforms: %d layers, %v", len(layers), err)
	}
	key, err := auth.LoadOrCreateKey(t.TempDir()+"/key", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := auth.NewTokens(auth.TokensOptions{Keys: []auth.Key{key}, Records: blobstore.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []auth.Target{{Registry: "docker.io", Repository: "library/many"}, {Registry: strings.Repeat("r", 60) + ".example.com", Repository: strings.Repeat("a", 255)}} {
		l := augment.Layer{Digest: layer.Digest(), DiffID: layer.Digest(), Size: 1234567890, Platform: "linux/arm64/v8",
			Location: "docker://" + target.Registry + "/v2/" + target.Repository + "/blobs/" + layer.Digest().String()}
		n := maxIncluded(target)
		grant := auth.Grant{Image: "docker.io/library/base", Base: layer.Digest(), Recipe: augment.Recipe{Layers: slices.Repeat([]augment.Layer{l}, n)}, Injected: slices.Repeat([]digest.Digest{layer.Digest()}, n)}
		if _, _, err := tokens.Mint(t.Context(), grant, 0); err != nil {
			t.Errorf("%d layers of %s: %v", n, target.Registry, err)
		}
	}
	layers, err = f.resolver.IncludedLayers(t.Context(), "", parse(t, "many:5"), nil)
	if refusal, ok := errors.AsType[*augment.Error](err); !ok || len(layers) > 0 || !strings.Contains(refusal.Error(), "at most 512 are taken") {
		t.Errorf("625 layers: %d, %v", len(layers), err)
	}
}

// TestLargeIncluded: a layer whose descriptor has more bytes than the limit is not
// fetched.
func TestLargeIncluded(t *testing.T) {
	f := newFixture(t)
	d := digest.FromString("never fetched")
	pushMany(t, f.registry, "large", 1, []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: d, Size: maxLayer + 1}}, d)
	_, err := f.resolver.IncludedLayers(t.Context(), "", parse(t, "many:large"), nil)
	if _, ok := errors.AsType[*augment.Error](err); !ok || !strings.Contains(err.Error(), "layers.max_size") {
		t.Errorf("error %v", err)
	}
	for _, line := range f.registry.TakeLines() {
		if strings.Contains(line, d.String()) {
			t.Errorf("%s", line)
		}
	}
}

// TestIncludedPlatforms: layers of an included image are for the platform that its entry
// in the index names, whatever its config leaves out. An image without an index and
// without an architecture is for any.
func TestIncludedPlatforms(t *testing.T) {
	for name, test := range map[string]struct {
		config  ocispec.Platform
		entries []string // of the index; none: the manifest alone
		want    []string
	}{
		"config without variant":      {ocispec.Platform{OS: "linux", Architecture: "arm"}, []string{"linux/arm/v6", "linux/arm/v7"}, []string{"linux/arm/v6", "linux/arm/v7"}},
		"config without architecture": {ocispec.Platform{OS: "linux"}, []string{"linux/arm/v6", "linux/amd64"}, []string{"linux/amd64", "linux/arm/v6"}},
		"config of another":           {ocispec.Platform{OS: "linux", Architecture: "amd64"}, []string{"linux/s390x", "linux/riscv64"}, []string{"linux/riscv64", "linux/s390x"}},
		"no index, unmarked":          {ocispec.Platform{OS: "linux"}, nil, []string{""}},
		"no index":                    {ocispec.Platform{OS: "linux", Architecture: "ppc64le"}, nil, []string{"linux/ppc64le"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			push := func(i int, tags ...string) ocispec.Descriptor {
				plain := archivetest.Tar(t, archivetest.File{Name: "opt/" + strconv.Itoa(i), Mode: 0o644})
				layer := f.registry.PutBlob("library/added", upstreamtest.Object{MediaType: ocispec.MediaTypeImageLayerGzip, Data: archivetest.Gzip(t, plain)})
				config := f.registry.PutBlob("library/added", upstreamtest.JSON(t, ocispec.MediaTypeImageConfig, ocispec.Image{
					Platform: test.config, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(plain)}}}))
				return f.registry.PutManifest("library/added", upstreamtest.JSON(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
					Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
					Config: config.Descriptor(), Layers: []ocispec.Descriptor{layer.Descriptor()}}), tags...).Descriptor()
			}
			if test.entries == nil {
				push(0, "x")
			} else {
				index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
				for i, entry := range test.entries {
					p, err := augment.ParsePlatform(entry)
					if err != nil {
						t.Fatal(err)
					}
					d := push(i)
					d.Platform = &p
					index.Manifests = append(index.Manifests, d)
				}
				f.registry.PutManifest("library/added", upstreamtest.JSON(t, ocispec.MediaTypeImageIndex, index), "x")
			}
			layers, err := f.resolver.IncludedLayers(t.Context(), "", parse(t, "added:x"), nil)
			if err != nil {
				t.Fatal(err)
			}
			var found []string
			for _, l := range layers {
				found = append(found, l.Platform)
			}
			slices.Sort(found)
			if !slices.Equal(found, test.want) {
				t.Errorf("layers for %q, want %q", found, test.want)
			}
		})
	}
}
