package augment

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestReferencesGo: what names bytes that the augmented image does not have goes from
// every document. All other annotations, and the layers with theirs, stay.
func TestReferencesGo(t *testing.T) {
	m := newMemory()
	layer := m.layer(archive(file{name: "x", text: "x"}))
	config := m.add(ocispec.MediaTypeImageConfig, `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["`+layer.DiffID.String()+`"]}}`)
	elsewhere := digest.FromString("elsewhere").String()
	stays := `"a":"b","org.opencontainers.image.revision":"` + digest.FromString("git").Encoded() + `","io.github.containers.compression.zstd":"true"`
	toc := `"annotations":{"containerd.io/snapshot/stargz/toc.digest":"` + elsewhere + `","vendor":"` + config.Digest.String() + `"}`
	goes := `"com.amazon.soci.index-digest":"` + elsewhere + `","com.amazon.soci.note":"x","io.cncf.notary.x509chain.thumbprint#S256":"[]","dev.sigstore.cosign/bundle":"{}","vnd.example":"` + elsewhere + `"`
	image := m.add(ocispec.MediaTypeImageManifest, fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"subject":{"digest":%q,"size":1},"config":%s,"layers":[{"mediaType":%q,"digest":%q,"size":%d,%s}],"annotations":{%s,%s,"names":"x@%s","base":%q}}`,
		ocispec.MediaTypeImageManifest, elsewhere, descriptor(config, `"urls":["https://example.org/config"],"annotations":{`+goes+`}`), ocispec.MediaTypeImageLayerGzip, layer.Digest, layer.Size, toc, stays, goes, config.Digest, layer.Digest))
	attestation := m.add(ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"config":`+descriptor(config)+`,"layers":[]}`)
	m.add(ocispec.MediaTypeImageIndex, fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"subject":{"digest":%q,"size":1},"manifests":[%s,%s],"annotations":{%s,%s,"attestation":"docker.io/x@%s"}}`, ocispec.MediaTypeImageIndex, elsewhere,
		descriptor(image, platform("amd64"), `"urls":["https://example.org"],"data":"e30=","annotations":{`+stays+`,`+goes+`,"config.digest":"`+config.Digest.String()+`"}`),
		descriptor(attestation, `"annotations":{"vnd.docker.reference.type":"attestation-manifest"}`), stays, goes, attestation.Digest), "x")
	img := mustApply(t, m, "x", Recipe{Env: []string{"A=b"}}, "")
	var index ocispec.Index
	var manifest ocispec.Manifest
	root := img.object(t, img.Root.Digest)
	if err := json.Unmarshal(root.Data, &index); err != nil || len(index.Manifests) != 1 {
		t.Fatalf("%d entries, %v", len(index.Manifests), err)
	}
	inner := img.object(t, index.Manifests[0].Digest)
	if err := json.Unmarshal(inner.Data, &manifest); err != nil {
		t.Fatal(err)
	}
	base := []string{ocispec.AnnotationBaseImageDigest, ocispec.AnnotationBaseImageName}
	kept := []string{"a", "io.github.containers.compression.zstd", "org.opencontainers.image.revision"}
	for what, test := range map[string]struct {
		got  map[string]string
		want []string
	}{
		"index": {index.Annotations, append(slices.Clone(kept), base...)}, "entry": {index.Manifests[0].Annotations, kept},
		"manifest": {manifest.Annotations, append(append(slices.Clone(kept), "base"), base...)}, "config": {manifest.Config.Annotations, nil},
		"layer": {manifest.Layers[0].Annotations, []string{"containerd.io/snapshot/stargz/toc.digest", "vendor"}},
	} {
		slices.Sort(test.want)
		if diff := cmp.Diff(test.want, slices.Sorted(maps.Keys(test.got))); diff != "" {
			t.Errorf("annotations of the %s (-want +got):\n%s", what, diff)
		}
	}
	if index.Subject != nil || manifest.Subject != nil || len(index.Manifests[0].URLs)+len(index.Manifests[0].Data)+len(manifest.Config.URLs) != 0 {
		t.Errorf("documents still point elsewhere: %s, %s", root.Data, inner.Data)
	}
	if got := mustApply(t, m, "x", Recipe{}, ""); got.Root.Digest != m.objects["x"].Digest {
		t.Error("a recipe that adds nothing changed the image")
	}
}

// TestFlatIndex: an inner index of one platform is replaced by its entries, with the
// annotations of the entry and the platform that engines would go by.
func TestFlatIndex(t *testing.T) {
	m := newMemory()
	amd, arm := m.image("amd64", ""), m.image("arm64", "")
	attestation := descriptor(amd, `"platform":{"architecture":"unknown","os":"unknown"}`)
	inner := map[string]Object{
		"declared":   m.index("", descriptor(amd, platform("amd64")), attestation),
		"undeclared": m.index("", descriptor(arm, `"annotations":{"k":"inner"}`)),
		"twice":      m.index("", descriptor(amd, platform("amd64"), `"annotations":{"n":"1"}`), descriptor(amd, platform("amd64"), `"annotations":{"n":"2"}`)),
		"two":        m.index("", descriptor(amd, platform("amd64")), descriptor(arm, platform("arm64"))),
	}
	inner["deep"] = m.index("", descriptor(inner["undeclared"]))
	for name, test := range map[string]struct {
		entries []string
		want    []string // platforms, "" for an index
	}{
		"one":           {[]string{descriptor(inner["declared"], platform("amd64"))}, []string{"linux/amd64"}},
		"undeclared":    {[]string{descriptor(inner["undeclared"]), descriptor(inner["declared"])}, []string{"linux/arm64", "linux/amd64"}},
		"twice":         {[]string{descriptor(inner["twice"]), descriptor(arm, platform("arm64"))}, []string{"linux/amd64", "linux/amd64", "linux/arm64"}},
		"two platforms": {[]string{descriptor(inner["two"]), descriptor(inner["declared"])}, []string{"", "linux/amd64"}},
		"deep":          {[]string{descriptor(inner["deep"])}, []string{"linux/arm64"}},
		"contradiction": {[]string{descriptor(inner["declared"], platform("arm64"))}, []string{"linux/arm64"}},
	} {
		m.index("x", test.entries...)
		img := mustApply(t, m, "x", Recipe{Env: []string{"A=b"}}, "")
		refs, err := img.object(t, img.Root.Digest).References(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range refs.Manifests {
			platform := ""
			if e.Platform != nil {
				platform = FormatPlatform(*e.Platform)
			}
			got = append(got, platform)
			if isIndex := e.MediaType == ocispec.MediaTypeImageIndex; isIndex != (platform == "" || name == "contradiction") {
				t.Errorf("%s: an entry for %q has type %s", name, platform, e.MediaType)
			}
			img.object(t, e.Digest)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
	m.index("x", descriptor(inner["undeclared"], `"annotations":{"k":"outer","l":"outer","com.amazon.soci.x":"y"}`))
	img := mustApply(t, m, "x", Recipe{Env: []string{"A=b"}}, "")
	if root := string(img.object(t, img.Root.Digest).Data); !strings.Contains(root, `"annotations":{"k":"inner","l":"outer"}`) {
		t.Errorf("annotations: %s", root)
	}
}

// TestPlain: where a recipe lets them, images that it is not for stay beside those that it
// changes, and are served as they are if there is no other.
func TestPlain(t *testing.T) {
	m := newMemory()
	amd := m.layer(archive(file{name: "x", text: "x"}))
	any := amd
	amd.Platform = "linux/amd64"
	windows := m.image("amd64", `,"os":"windows"`)
	winOnly := m.add(ocispec.MediaTypeImageConfig, `{"os":"windows","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}`)
	m.add(ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"config":`+descriptor(winOnly)+`,"layers":[]}`, "windows")
	const onWindows = `"platform":{"os":"windows","architecture":"amd64","os.version":"10.0.20348"}`
	m.index("mixed", descriptor(m.image("amd64", ""), platform("amd64")), descriptor(windows, onWindows), descriptor(m.image("s390x", "")), descriptor(m.image("arm64", ""), `"platform":{"os":"unknown","architecture":"unknown"}`))
	m.index("inner", descriptor(m.image("amd64", ""), platform("amd64")), descriptor(m.index("", descriptor(windows, onWindows))))
	m.index("others", descriptor(windows, onWindows), descriptor(m.image("arm64", ""), platform("arm64")))
	for name, test := range map[string]struct {
		layer   Layer
		entries int // of the index
		plain   int // of these, as the base has them
	}{
		"mixed":   {amd, 3, 2},
		"inner":   {any, 2, 1},
		"others":  {amd, 0, 0},
		"windows": {any, 0, 0},
	} {
		recipe := Recipe{Layers: []Layer{test.layer}, Plain: true}
		img, err := apply(t, m, name, recipe, "")
		if test.entries == 0 {
			unfit, ok := errors.AsType[*Unfit](err)
			if !ok || !unfit.Image || unfit.Base != m.objects[name].Digest {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		refs, err := img.object(t, img.Root.Digest).References(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		plain := 0
		for _, e := range refs.Manifests {
			if strings.Contains(string(m.objects[name].Data), e.Digest.String()) {
				plain++
			}
		}
		if len(refs.Manifests) != test.entries || plain != test.plain {
			t.Errorf("%s: %d entries, %d as they were", name, len(refs.Manifests), plain)
		}
		recipe.Plain = false
		if without := mustApply(t, m, name, recipe, ""); without.Root.Digest == img.Root.Digest {
			t.Errorf("%s: without unfit: plain it is the same", name)
		}
	}
	// One with as many layers as engines take has no room for one more.
	var layers, diffs []string
	for range 125 {
		layers = append(layers, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, ocispec.MediaTypeImageLayerGzip, any.Digest, any.Size))
		diffs = append(diffs, fmt.Sprintf("%q", any.DiffID))
	}
	config := m.add(ocispec.MediaTypeImageConfig, `{"os":"linux","architecture":"arm64","rootfs":{"type":"layers","diff_ids":[`+strings.Join(diffs, ",")+`]}}`)
	full := m.add(ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"config":`+descriptor(config)+`,"layers":[`+strings.Join(layers, ",")+`]}`, "full")
	m.index("beside", descriptor(m.image("amd64", ""), platform("amd64")), descriptor(full, platform("arm64")))
	if _, err := apply(t, m, "beside", Recipe{Layers: []Layer{any}}, ""); err == nil || !strings.Contains(err.Error(), "126") {
		t.Errorf("by default: %v", err)
	}
	img := mustApply(t, m, "beside", Recipe{Layers: []Layer{any}, Plain: true}, "")
	if root := string(img.object(t, img.Root.Digest).Data); !strings.Contains(root, full.Digest.String()) {
		t.Errorf("the full image is not there: %s", root)
	}
	_, err := apply(t, m, "full", Recipe{Layers: []Layer{any}, Plain: true}, "")
	if unfit, ok := errors.AsType[*Unfit](err); !ok || !unfit.Image {
		t.Errorf("full: %v", err)
	}
}
