package recipes

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	ggcr "github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/waveproxy/waveproxy/integration/engine"
	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// rawIndex is an index that is pushed byte for byte.
type rawIndex []byte

func (x rawIndex) RawManifest() ([]byte, error)        { return x, nil }
func (x rawIndex) MediaType() (types.MediaType, error) { return types.OCIImageIndex, nil }

// pushIndex pushes an index of the entries to library/ and returns its descriptor.
func pushIndex(t *testing.T, reg *upstream.Server, name string, entries ...v1.Descriptor) v1.Descriptor {
	t.Helper()
	data := harness.MustJSON(t, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: entries})
	if err := ggcr.Put(harness.MustRef(t, reg.Host+"/library/"+name), rawIndex(data)); err != nil {
		t.Fatal(err)
	}
	hash, err := v1.NewHash(harness.Sum(data))
	if err != nil {
		t.Fatal(err)
	}
	return v1.Descriptor{MediaType: types.OCIImageIndex, Digest: hash, Size: int64(len(data))}
}

// as returns the entry for another platform.
func as(d v1.Descriptor, architecture, variant string) v1.Descriptor {
	d.Platform = &v1.Platform{OS: "linux", Architecture: architecture, Variant: variant}
	return d
}

// TestOddBases pulls and runs images whose indexes are unusual. In every engine the
// recipe's layer is the one for the platform that the engine chose.
func TestOddBases(t *testing.T) {
	reg := upstream.Registry(t)
	digests := upstream.Push(t, reg.Host, "busybox:docker-multi")
	raw, err := crane.Manifest(reg.Host+"/library/busybox@"+digests["busybox:docker-multi"].String(), crane.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	var multi v1.IndexManifest
	if err := json.Unmarshal(raw, &multi); err != nil || len(multi.Manifests) != 2 {
		t.Fatalf("%v: %s", err, raw)
	}
	amd, arm := multi.Manifests[0], multi.Manifests[1]
	undeclared := amd
	undeclared.Platform = nil
	inner := pushIndex(t, reg, "busybox:inner", undeclared)
	pushIndex(t, reg, "busybox:nested", inner, as(arm, "arm64", ""))
	pushIndex(t, reg, "busybox:contradicts", as(amd, "arm64", ""), as(arm, "amd64", ""))
	pushIndex(t, reg, "busybox:variants", as(arm, "amd64", "v3"), as(amd, "amd64", ""))
	var layers []string
	for _, arch := range []string{"amd64", "arm64"} {
		dir := t.TempDir()
		harness.WriteFile(t, filepath.Join(dir, "arch"), arch+"\n", 0o644)
		layers = append(layers, fmt.Sprintf(`{path: %q, target: /opt, platform: linux/%s}`, dir, arch))
	}
	settings := harness.DockerHub(reg.URL)
	settings["WAVEPROXY_RECIPES"] = `{arch: {layers: [` + strings.Join(layers, ", ") + `]}}`
	p := harness.StartProxy(t, "", settings)
	for _, e := range engine.Available(t) {
		t.Run(e.Name(), func(t *testing.T) {
			for tag, base := range map[string]string{"nested": "amd64", "contradicts": "arm64", "variants": "amd64"} {
				image := p.Host + "/wt/arch/library/busybox:" + tag
				harness.MustPull(t, e, image)
				if out := harness.MustRun(t, e, image, "/bin/sh", "-c", "cat /opt/arch /etc/image-arch"); strings.Join(strings.Fields(out), " ") != "amd64 "+base {
					t.Errorf("%s: the recipe's layer and the base are for %q, want amd64 and the base %s", tag, out, base)
				}
			}
		})
	}
}

// TestAttachments attaches a signature and a statement to an image, as clients do where a
// registry has no referrers API, and finds them through a recipe.
func TestAttachments(t *testing.T) {
	ctx := t.Context()
	reg := upstream.Registry(t)
	digests := upstream.Push(t, reg.Host, "busybox:docker-multi")
	origin, err := remote.NewRepository(reg.Host + "/library/busybox")
	if err != nil {
		t.Fatal(err)
	}
	origin.PlainHTTP = true
	subject, err := origin.Resolve(ctx, digests["busybox:docker-multi"].String())
	if err != nil {
		t.Fatal(err)
	}
	statement := content.NewDescriptorFromBytes("application/vnd.in-toto+json", []byte(`{"a":"statement"}`))
	if err := origin.Push(ctx, statement, strings.NewReader(`{"a":"statement"}`)); err != nil {
		t.Fatal(err)
	}
	attached, err := oras.PackManifest(ctx, origin, oras.PackManifestVersion1_1, "application/vnd.example.statement", oras.PackManifestOptions{Subject: &subject, Layers: []ocispec.Descriptor{statement}})
	if err != nil {
		t.Fatal(err)
	}
	// As cosign does it: an image's config, and a tag.
	payload := content.NewDescriptorFromBytes("application/vnd.dev.cosign.simplesigning.v1+json", []byte(`{"critical":{}}`))
	config := harness.MustJSON(t, ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{payload.Digest}}})
	described := content.NewDescriptorFromBytes(ocispec.MediaTypeImageConfig, config)
	for d, text := range map[string]string{payload.Digest.String(): `{"critical":{}}`, described.Digest.String(): string(config)} {
		desc := payload
		if d == described.Digest.String() {
			desc = described
		}
		if err := origin.Push(ctx, desc, strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	signed, err := oras.PackManifest(ctx, origin, oras.PackManifestVersion1_0, "", oras.PackManifestOptions{ConfigDescriptor: &described, Layers: []ocispec.Descriptor{payload}})
	if err != nil {
		t.Fatal(err)
	}
	tag := strings.Replace(subject.Digest.String(), ":", "-", 1)
	if err := origin.Tag(ctx, signed, tag+".sig"); err != nil {
		t.Fatal(err)
	}

	p := harness.StartProxy(t, "", harness.WithScripts(t, reg))
	through, err := remote.NewRepository(p.Host + "/wt/scripts/library/busybox")
	if err != nil {
		t.Fatal(err)
	}
	through.PlainHTTP = true
	var found []digest.Digest
	if err := through.Referrers(ctx, subject, "application/vnd.example.statement", func(list []ocispec.Descriptor) error {
		for _, d := range list {
			found = append(found, d.Digest)
		}
		return nil
	}); err != nil || len(found) != 1 || found[0] != attached.Digest {
		t.Errorf("referrers %v, %v; want %s", found, err, attached.Digest)
	}
	for _, ref := range []string{attached.Digest.String(), tag + ".sig", tag} {
		_, want, err := oras.FetchBytes(ctx, origin, ref, oras.DefaultFetchBytesOptions)
		if err != nil {
			t.Fatal(err)
		}
		if _, got, err := oras.FetchBytes(ctx, through, ref, oras.DefaultFetchBytesOptions); err != nil || string(got) != string(want) {
			t.Errorf("%s through the recipe: %v, %s; want %s", ref, err, got, want)
		}
	}
	if _, got, err := oras.FetchBytes(ctx, through.Blobs(), statement.Digest.String(), oras.DefaultFetchBytesOptions); err != nil || string(got) != `{"a":"statement"}` {
		t.Errorf("the statement: %v, %q", err, got)
	}
	var tags []string
	if err := through.Tags(ctx, "", func(page []string) error { tags = append(tags, page...); return nil }); err != nil || len(tags) < 3 {
		t.Errorf("tags %q, %v", tags, err)
	}
}
