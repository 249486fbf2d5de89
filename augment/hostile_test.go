package augment

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// refused checks that err is an *Error with the text.
func refused(t *testing.T, err error, says string) {
	t.Helper()
	if _, ok := errors.AsType[*Error](err); !ok || !strings.Contains(err.Error(), says) {
		t.Errorf("error %.200v, want a refusal with %q", err, says)
	}
}

// TestCaseOfNames: engines read "Layers" as "layers", and the last of the two
// counts. The member that is rewritten must be the member that they read.
func TestCaseOfNames(t *testing.T) {
	m := newMemory()
	base := m.image("amd64", `,"config":{"env":["PATH=/bin"],"entrypoint":["/e"]}`)
	m.add(ocispec.MediaTypeImageManifest, strings.NewReplacer(`"layers"`, `"Layers"`, `"config"`, `"CONFIG"`, `"digest"`, `"Digest"`).Replace(string(base.Data)), "spelled")
	recipe := Recipe{Layers: []Layer{m.layer(archive(file{name: "a"}))}, Env: []string{"A=b"}}
	img := mustApply(t, m, "spelled", recipe, "")
	manifest := img.object(t, img.Root.Digest)
	refs, err := manifest.References(t.Context())
	if err != nil || len(refs.Layers) != 2 || refs.Layers[1].Digest != recipe.Layers[0].Digest {
		t.Fatalf("layers %+v, %v", refs.Layers, err)
	}
	var c ocispec.Image
	if err := json.Unmarshal(img.object(t, refs.Config.Digest).Data, &c); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"PATH=/bin", "A=b", "WAVE_ENTRY_CHAIN=/e"}, c.Config.Env); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if n := strings.Count(strings.ToLower(string(manifest.Data)), `"layers"`); n != 1 {
		t.Errorf("%d members are the layers: %s", n, manifest.Data)
	}

	good := m.image("amd64", "")
	other := strings.TrimSuffix(string(good.Data), "}")
	for name, text := range map[string]string{
		"layers":            other + `,"Layers":[]}`,
		"config":            other + `,"Config":` + descriptor(good) + `}`,
		"digest":            strings.Replace(string(good.Data), `"digest"`, `"Digest":"sha256:x","digest"`, 1),
		"long s in layerſ":  other + `,"layerſ":[]}`,
		"of an index entry": `{"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[` + descriptor(good, `"Digest":"`+good.Digest.String()+`"`) + `]}`,
	} {
		t.Run(name, func(t *testing.T) {
			m.add(ocispec.MediaTypeImageManifest, text, "twice")
			_, err := apply(t, m, "twice", recipe, "")
			refused(t, err, "twice")
		})
	}
	// The keys of a map are compared exactly.
	m.add(ocispec.MediaTypeImageManifest, other+`,"annotations":{"Vendor":"x","vendor":"y"}}`, "map")
	img = mustApply(t, m, "map", recipe, "")
	if got := string(img.object(t, img.Root.Digest).Data); !strings.Contains(got, `"Vendor":"x","vendor":"y"`) {
		t.Errorf("annotations of %s", got)
	}
}

// TestPinned: an index that names an entry by a tag could mean another image
// tomorrow, and could contain itself.
func TestPinned(t *testing.T) {
	m := newMemory()
	for _, ref := range []string{"self", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:abc", ""} {
		m.asked = nil
		m.add(ocispec.MediaTypeImageIndex, `{"manifests":[{"mediaType":"`+ocispec.MediaTypeImageIndex+`","digest":"`+ref+`","size":1}]}`, "self")
		_, err := apply(t, m, "self", Recipe{Env: []string{"A=b"}}, "")
		refused(t, err, "digest")
		if want := []string{"manifest self"}; !slices.Equal(m.asked, want) {
			t.Errorf("asked for %v, want %v", m.asked, want)
		}
	}
}

// TestManyIndexes: the cost of an image is bounded over all levels together, not
// only level by level.
func TestManyIndexes(t *testing.T) {
	m := newMemory()
	last := m.index("", descriptor(m.image("amd64", ""), platform("amd64")))
	for range maxDepth - 1 {
		last = m.index("wide", slices.Repeat([]string{descriptor(last)}, 20)...)
	}
	_, err := apply(t, m, "wide", Recipe{Env: []string{"A=b"}}, "")
	refused(t, err, "entries")
	if len(m.asked) > 2*maxChildren+1 {
		t.Errorf("%d documents were read", len(m.asked))
	}
	var entries []string
	long := strings.Repeat("x", maxObject-1000)
	for i := range maxImage/maxObject + 1 {
		text := fmt.Sprintf(`,"x%d":"`, i) + long + `"`
		entries = append(entries, descriptor(m.image("amd64", text), platform("amd64")))
	}
	m.index("large", entries...)
	_, err = apply(t, m, "large", Recipe{Env: []string{"A=b"}}, "")
	refused(t, err, "bytes")
}

// TestEntriesOfNoImage: an index may list other things than images. They must not
// be errors.
func TestEntriesOfNoImage(t *testing.T) {
	m := newMemory()
	amd := m.image("amd64", "")
	artifact := m.add(ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"artifactType":"application/vnd.amazon.soci.index.v2+json","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:x","size":2},"layers":[]}`)
	soci := descriptor(artifact, `"artifactType":"application/vnd.amazon.soci.index.v2+json"`, platform("amd64"))
	unknown := `{"mediaType":"application/xml","digest":"` + digest.FromString("x").String() + `","size":1,"platform":{"architecture":"arm64","os":"linux"}}`
	m.index("image", descriptor(artifact), descriptor(amd, platform("amd64")), soci, unknown)
	m.index("none", soci, unknown)
	recipe := Recipe{Layers: []Layer{m.layer(archive(file{name: "a"}))}}
	for _, platforms := range []string{"", "linux/amd64"} {
		img := mustApply(t, m, "image", recipe, platforms)
		refs, err := img.object(t, img.Root.Digest).References(t.Context())
		if err != nil || len(refs.Manifests) != 1 || refs.Manifests[0].Platform == nil {
			t.Errorf("entries %+v, %v", refs.Manifests, err)
		}
	}
	for _, test := range []struct{ ref, platforms, says string }{
		{"image", "linux/arm64", "linux/arm64; it has linux/amd64"},
		{"none", "", "not a container image"},
		{"none", "linux/amd64", "linux/amd64; it has none"},
	} {
		_, err := apply(t, m, test.ref, recipe, test.platforms)
		refused(t, err, test.says)
	}
}

// TestAmbiguous: engines refuse a document that is both manifest and index. It is
// refused here too, before a client gets the image's name.
func TestAmbiguous(t *testing.T) {
	m := newMemory()
	for _, mediaType := range []string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex} {
		good := m.image("amd64", "")
		text := strings.Replace(string(good.Data), ocispec.MediaTypeImageManifest, mediaType, 1)
		m.add(mediaType, strings.TrimSuffix(text, "}")+`,"manifests":[`+descriptor(good)+`]}`, "both")
		_, err := apply(t, m, "both", Recipe{Env: []string{"A=b"}}, "")
		refused(t, err, "index")
	}
}

// TestOldConfigType: Docker 1.10 pushed configs under a generic type, and
// engines accept them.
func TestOldConfigType(t *testing.T) {
	m := newMemory()
	config := m.add("application/octet-stream", `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`)
	for mediaType, ok := range map[string]bool{dockerManifest: true, ocispec.MediaTypeImageManifest: false} {
		m.add(mediaType, `{"schemaVersion":2,"mediaType":"`+mediaType+`","config":`+descriptor(config)+`,"layers":[]}`, "old")
		if _, err := apply(t, m, "old", Recipe{Env: []string{"A=b"}}, ""); (err == nil) != ok {
			t.Errorf("%s: %v", mediaType, err)
		}
	}
}

// TestLinksOfAnother: a layer is read without its digest being verified, so the
// links that one repository sent for a layer are not used for another.
func TestLinksOfAnother(t *testing.T) {
	honest, liar := newMemory(), newMemory()
	base := honest.layer(archive(bases["debian"]...))
	for _, m := range []*memory{honest, liar} {
		config := m.add(ocispec.MediaTypeImageConfig, `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["`+base.DiffID.String()+`"]}}`)
		m.add(ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"config":`+descriptor(config)+`,"layers":[{"digest":"`+base.Digest.String()+`","size":1}]}`, "latest")
	}
	liar.archives[base.Digest] = archive(bases["busybox"]...)
	a := NewAugmenter(125)
	var roots []digest.Digest
	for _, augmenter := range []*Augmenter{NewAugmenter(125), a, a} {
		name, m := "honest/x", honest
		if augmenter == a && len(roots) == 1 {
			name, m = "liar/x", liar
		}
		recipe := Recipe{Layers: []Layer{m.layer(archive(file{name: "bin/x"}))}}
		img, err := augmenter.Apply(t.Context(), m, Request{Name: name, Reference: "latest", Recipe: recipe, Archives: m})
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, img.Root.Digest)
	}
	if roots[0] != roots[2] {
		t.Error("another repository's answer changed the image")
	}
}

// TestCost applies documents and recipes of 4 MiB. Careless reading of them would
// take minutes or hundreds of megabytes.
func TestCost(t *testing.T) {
	many := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return strings.TrimSuffix(b.String(), ",")
	}
	if m, err := parseMembers([]byte("{" + many(100_000, `"%06x":0,`) + "}")); err != nil || len(m) != 100_000 {
		t.Errorf("%d members, %v", len(m), err)
	}
	edits := strings.Split(many(100_000, "%06x=,"), ",")
	if got := mergeEnv(edits, edits, exactly); !slices.Equal(got, edits) {
		t.Errorf("%d variables", len(got))
	}
	if _, err := ParsePlatforms(strings.Repeat("linux/amd64,", 200_000)); err == nil {
		t.Error("200,000 platforms were taken")
	}
	layer := Layer{Digest: digest.FromString("l"), DiffID: digest.FromString("d")}
	m := newMemory()
	m.image("amd64", "", "base")
	_, err := apply(t, m, "base", Recipe{Layers: slices.Repeat([]Layer{layer}, maxChildren+1)}, "")
	refused(t, err, "1025 layers")

	m.add(ocispec.MediaTypeImageManifest, `{"config":{"mediaType":"`+ocispec.MediaTypeImageConfig+`"},"layers":[`+strings.Repeat("{},", 1_300_000)+`{}]}`, "layers")
	m.add(ocispec.MediaTypeImageIndex, `{"manifests":[`+strings.Repeat("{},", 1_300_000)+`{}]}`, "index")
	for ref, says := range map[string]string{"layers": "2600006 elements", "index": "2600004 elements"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := apply(t, m, ref, Recipe{}, "")
		runtime.ReadMemStats(&after)
		refused(t, err, says)
		if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
			t.Errorf("%s: %d MiB for a document of 4", ref, used>>20)
		}
	}
}

// TestMergeEnv: a key keeps its first place and gets its last value.
func TestMergeEnv(t *testing.T) {
	for _, test := range []struct{ env, edits, want string }{
		{"", "A=1", "A=1"},
		{"A=1 B=2 A=3", "B=4", "A=1 B=4 A=3"},
		{"A=1 B=2 A=3", "A=4", "A=4 B=2"},
		{"A=1", "C=1 B=1 C=2 A=2", "A=2 C=2 B=1"},
		{"A B=", "A=1 B=2=3", "A=1 B=2=3"},
		{"A=1", "a=2", "A=1 a=2"},
	} {
		if got := strings.Join(mergeEnv(strings.Fields(test.env), strings.Fields(test.edits), exactly), " "); got != test.want {
			t.Errorf("%q and %q make %q, want %q", test.env, test.edits, got, test.want)
		}
	}
}
