package augment

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func apply(t *testing.T, m *memory, ref string, r Recipe, platforms string) (*Image, error) {
	t.Helper()
	want, err := ParsePlatforms(platforms)
	if err != nil {
		t.Fatal(err)
	}
	return NewAugmenter(125).Apply(t.Context(), m, Request{Name: "docker.io/library/x:" + ref, Reference: ref, Recipe: r, Platforms: want, Archives: m, AddedIndex: m.added})
}

func mustApply(t *testing.T, m *memory, ref string, r Recipe, platforms string) *Image {
	t.Helper()
	img, err := apply(t, m, ref, r, platforms)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func (img *Image) object(t *testing.T, d digest.Digest) Object {
	t.Helper()
	i := slices.IndexFunc(img.Objects, func(o Object) bool { return o.Digest == d })
	if i < 0 {
		t.Fatalf("the image has no object %s", d)
	}
	return img.Objects[i]
}

// TestBytes compares rewritten documents with exact bytes: only our members
// change, everything else keeps its bytes and its order.
func TestBytes(t *testing.T) {
	m := newMemory()
	added := Layer{Digest: digest.FromString("gz"), Size: 7, DiffID: digest.FromString("tar")}
	config := m.add(ocispec.MediaTypeImageConfig, `{"os":"linux", "odd":[1e400, 12345678901234567890, "\u003c<>&\ud83d"],"config":{"Healthcheck":{"StartInterval":5},"Env":["A=1","B=2","A=3"],"OnBuild":["RUN x"],"Entrypoint":"/one","Shell":["sh"], "ArgsEscaped":true},"architecture":"amd64","history":[{"created_by":"x"},{"empty_layer":true}],"rootfs":{"type":"layers","diff_ids":["sha256:1"],"new":{}}}`)
	base := m.add(ocispec.MediaTypeImageManifest, `{"new":{"b":1,"a":[ 1 ]},"schemaVersion":2,"config":{"mediaType":"`+ocispec.MediaTypeImageConfig+`","digest":"`+config.Digest.String()+`","size":1,"data":"e30=","annotations":{"k":"v"}},"layers":[{"urls":["u"],"mediaType":"application/vnd.oci.image.layer.v1.tar+zstd","size":5,"digest":"sha256:5555555555555555555555555555555555555555555555555555555555555555"}],"annotations":{"z":"<1>"},"subject":{"digest":"sha256:9"}}`, "latest")
	img := mustApply(t, m, "latest", Recipe{Layers: []Layer{added}, Env: []string{"C=4", "A=<5>"}, Cmd: []string{"a b"}, WorkingDir: "/w"}, "")
	root := img.object(t, img.Root.Digest)
	refs, err := root.References(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantConfig := `{"os":"linux","odd":[1e400, 12345678901234567890, "\u003c<>&\ud83d"],"config":{"Healthcheck":{"StartInterval":5},"Env":["A=<5>","B=2","C=4","WAVE_ENTRY_CHAIN=/one"],"OnBuild":["RUN x"],"Entrypoint":"/one","Shell":["sh"],"ArgsEscaped":true,"Cmd":["a b"],"WorkingDir":"/w"},"architecture":"amd64","history":[{"created_by":"x"},{"empty_layer":true},{"created":"1970-01-01T00:00:00Z","created_by":"waveproxy: add layer ` + added.Digest.String() + `"}],"rootfs":{"type":"layers","diff_ids":["sha256:1","` + added.DiffID.String() + `"],"new":{}}}`
	if diff := cmp.Diff(wantConfig, string(img.object(t, refs.Config.Digest).Data)); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	wantManifest := `{"new":{"b":1,"a":[ 1 ]},"schemaVersion":2,"config":{"mediaType":"` + ocispec.MediaTypeImageConfig + `","digest":"` + digest.FromString(wantConfig).String() + `","size":` + fmt.Sprint(len(wantConfig)) + `,"annotations":{"k":"v"}},"layers":[{"urls":["u"],"mediaType":"application/vnd.oci.image.layer.v1.tar+zstd","size":5,"digest":"sha256:5555555555555555555555555555555555555555555555555555555555555555"},{"mediaType":"` + ocispec.MediaTypeImageLayerGzip + `","digest":"` + added.Digest.String() + `","size":7}],"annotations":{"z":"<1>","org.opencontainers.image.base.digest":"` + base.Digest.String() + `","org.opencontainers.image.base.name":"docker.io/library/x:latest"}}`
	if diff := cmp.Diff(wantManifest, string(root.Data)); diff != "" {
		t.Errorf("manifest (-want +got):\n%s", diff)
	}
}

// TestDockerBytes: Docker's format has no annotations, and its own layer type.
func TestDockerBytes(t *testing.T) {
	m := newMemory()
	config := m.add(dockerConfig, `{"architecture":"amd64","os":"linux","config":null,"history":null,"rootfs":{"diff_ids":null}}`)
	child := m.add(dockerManifest, `{"schemaVersion":2,"mediaType":"`+dockerManifest+`","config":`+descriptor(config)+`,"layers":[]}`)
	m.add(dockerList, `{"schemaVersion":2,"mediaType":"`+dockerList+`","manifests":[`+descriptor(child, platform("amd64"))+`]}`, "latest")
	added := Layer{Digest: digest.FromString("gz"), Size: 7, DiffID: digest.FromString("tar")}
	img := mustApply(t, m, "latest", Recipe{Layers: []Layer{added}}, "")
	wantConfig := `{"architecture":"amd64","os":"linux","config":null,"history":null,"rootfs":{"diff_ids":["` + added.DiffID.String() + `"]}}`
	wantManifest := `{"schemaVersion":2,"mediaType":"` + dockerManifest + `","config":` + descriptor(NewObject(dockerConfig, []byte(wantConfig))) + `,"layers":[{"mediaType":"` + dockerLayer + `","digest":"` + added.Digest.String() + `","size":7}]}`
	wantIndex := `{"schemaVersion":2,"mediaType":"` + dockerList + `","manifests":[` + descriptor(NewObject(dockerManifest, []byte(wantManifest)), platform("amd64")) + `]}`
	for _, want := range []string{wantConfig, wantManifest, wantIndex} {
		if got := img.object(t, digest.FromString(want)); string(got.Data) != want {
			t.Errorf("got %s, want %s", got.Data, want)
		}
	}
	if img.Root.Digest != digest.FromString(wantIndex) || img.Root.MediaType != dockerList {
		t.Errorf("root %+v", img.Root)
	}
}

// TestIdentity: adding nothing changes nothing, whatever the image.
func TestIdentity(t *testing.T) {
	m := newMemory()
	amd, arm := m.image("amd64", "", "single"), m.image("arm64", "")
	m.index("multi", descriptor(amd, platform("amd64")), descriptor(arm, platform("arm64")), descriptor(amd, `"platform":{"architecture":"unknown","os":"unknown"}`))
	for _, ref := range []string{"single", "multi"} {
		img := mustApply(t, m, ref, Recipe{}, "linux/amd64")
		if img.Root.Digest != m.objects[ref].Digest || img.Base != img.Root.Digest || len(img.Layers) != 0 {
			t.Errorf("%s became %+v", ref, img.Root)
		}
		for _, o := range img.Objects {
			if !slices.Equal(o.Data, m.objects[o.Digest.String()].Data) {
				t.Errorf("%s: object %s is not the base's", ref, o.Digest)
			}
		}
	}
}

// TestDeterministic: the same inputs give the same image, also in parallel.
func TestDeterministic(t *testing.T) {
	m := newMemory()
	var entries []string
	for _, arch := range []string{"amd64", "arm64", "s390x", "ppc64le", "riscv64"} {
		entries = append(entries, descriptor(m.image(arch, ""), platform(arch)))
	}
	m.index("multi", entries...)
	recipe := Recipe{Layers: []Layer{m.layer(archive(file{name: "bin/x", text: "x"}))}, Env: []string{"A=b"}}
	first := mustApply(t, m, "multi", recipe, "")
	for range 20 {
		if diff := cmp.Diff(first, mustApply(t, m, "multi", recipe, "")); diff != "" {
			t.Fatalf("another result:\n%s", diff)
		}
	}
}

// TestConsistent checks every descriptor of an augmented index, and that
// layers, diff IDs and history go together.
func TestConsistent(t *testing.T) {
	m := newMemory()
	amd, arm := m.image("amd64", `,"history":[{"created_by":"base"}]`), m.image("arm64", "")
	m.index("multi", descriptor(amd, platform("amd64")), descriptor(arm, platform("arm64")))
	recipe := Recipe{Layers: []Layer{m.layer(archive(file{name: "a", text: "a"})), m.layer(archive(file{name: "b", text: "b"}))}}
	img := mustApply(t, m, "multi", recipe, "")
	refs, err := img.object(t, img.Root.Digest).References(t.Context())
	if err != nil || len(refs.Manifests) != 2 {
		t.Fatalf("%d entries, %v", len(refs.Manifests), err)
	}
	for _, entry := range refs.Manifests {
		manifest := img.object(t, entry.Digest)
		if int64(len(manifest.Data)) != entry.Size {
			t.Errorf("entry says %d bytes, manifest has %d", entry.Size, len(manifest.Data))
		}
		parts, err := manifest.References(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		config := img.object(t, parts.Config.Digest)
		var c ocispec.Image
		if err := json.Unmarshal(config.Data, &c); err != nil {
			t.Fatal(err)
		}
		if int64(len(config.Data)) != parts.Config.Size || len(parts.Layers) != 3 || len(c.RootFS.DiffIDs) != 3 {
			t.Errorf("%s: %d layers, %d diff IDs", c.Architecture, len(parts.Layers), len(c.RootFS.DiffIDs))
		}
		if want := map[string]int{"amd64": 3, "arm64": 0}[c.Architecture]; len(c.History) != want {
			t.Errorf("%s: %d history entries, want %d", c.Architecture, len(c.History), want)
		}
	}
}

func TestPlatforms(t *testing.T) {
	m := newMemory()
	amd, arm, v7, v6 := m.image("amd64", "", "amd64"), m.image("arm64", ""), m.image("arm", `,"variant":"v7"`), m.image("arm", `,"variant":"v6"`)
	s390 := m.image("s390x", "")
	m.index("multi", descriptor(amd, platform("amd64")), descriptor(arm, `"platform":{"architecture":"arm64","os":"linux","variant":"v8"}`),
		descriptor(v7, `"platform":{"architecture":"arm","os":"linux","variant":"v7"}`), descriptor(v6, `"platform":{"architecture":"arm","os":"linux","variant":"v6"}`),
		descriptor(s390), // without a platform: its config has it
		descriptor(m.add(ocispec.MediaTypeImageManifest, "{}"), `"platform":{"architecture":"amd64","os":"windows","os.version":"10.0"}`),
		descriptor(amd, platform("amd64"), `"annotations":{"vnd.docker.reference.type":"attestation-manifest"}`))
	m.image("", "", "anything")
	m.index("old", descriptor(m.image("arm", ""), platform("arm")))
	plain := Layer{Digest: digest.FromString("p"), DiffID: digest.FromString("p")}
	forAMD, forARM := plain, plain
	forAMD.Platform, forARM.Platform = "linux/amd64", "linux/arm64"
	for name, test := range map[string]struct {
		ref, platforms string
		layers         []Layer
		entries        int
		err            string
	}{
		"all":                   {"multi", "", []Layer{plain}, 5, ""},
		"one":                   {"multi", "linux/amd64", []Layer{plain}, 1, ""},
		"two":                   {"multi", "x86_64,arm64v8", []Layer{plain}, 2, ""},
		"every variant":         {"multi", "linux/arm", []Layer{plain}, 2, ""},
		"one variant":           {"multi", "linux/arm/v6", []Layer{plain}, 1, ""},
		"variant unsaid":        {"old", "linux/arm/v7", []Layer{plain}, 1, ""},
		"variant that is not":   {"old", "linux/arm/v6", []Layer{plain}, 0, "linux/arm/v6; it has linux/arm"},
		"told by config":        {"multi", "linux/s390x", []Layer{plain}, 1, ""},
		"lacking":               {"multi", "linux/riscv64", []Layer{plain}, 0, "linux/riscv64; it has linux/amd64, linux/arm/v6, linux/arm/v7, linux/arm64, linux/s390x, windows/amd64"},
		"one of two lacking":    {"multi", "linux/amd64,linux/386", []Layer{plain}, 0, "linux/386"},
		"Windows":               {"multi", "windows/amd64", []Layer{plain}, 0, "no layer for platform windows/amd64"},
		"other system":          {"multi", "plan9/amd64", []Layer{plain}, 0, "plan9/amd64"},
		"bound layers":          {"multi", "", []Layer{plain, forAMD, forARM}, 2, ""},
		"bound layer missing":   {"multi", "linux/s390x", []Layer{forAMD, forARM}, 0, "no layer for platform linux/s390x"},
		"no platform that fits": {"amd64", "", []Layer{forARM}, 0, "fits"},
		"single of another":     {"amd64", "linux/arm64", []Layer{plain}, 0, "linux/arm64; it has linux/amd64"},
		"single":                {"amd64", "linux/amd64", []Layer{forAMD, forARM}, 0, ""},
		"says nothing":          {"anything", "linux/arm64", []Layer{plain}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			img, err := apply(t, m, test.ref, Recipe{Layers: test.layers}, test.platforms)
			if test.err != "" {
				if _, ok := errors.AsType[*Error](err); !ok || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("error %v, want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			refs, err := img.object(t, img.Root.Digest).References(t.Context())
			if err != nil || len(refs.Manifests) != test.entries {
				t.Errorf("%d entries, want %d; %v", len(refs.Manifests), test.entries, err)
			}
			for _, l := range img.Layers {
				if test.platforms == "linux/amd64" && l.Platform == "linux/arm64" {
					t.Error("an image for amd64 has the layer for arm64")
				}
			}
		})
	}
}

// TestAsked counts the requests for documents and layers of the base image.
func TestAsked(t *testing.T) {
	m := newMemory()
	amd, arm := m.image("amd64", "", "single"), m.image("arm64", "")
	m.index("multi", descriptor(amd, platform("amd64")), descriptor(arm, platform("arm64")))
	plain, usr := m.layer(archive(file{name: "x", text: "x"})), m.layer(archive(file{name: "bin/x", text: "x"}))
	for name, test := range map[string]struct {
		ref, platforms           string
		layer                    Layer
		manifests, blobs, layers int
	}{
		"single":           {"single", "", plain, 1, 1, 0},
		"index":            {"multi", "", plain, 3, 2, 0},
		"index, one":       {"multi", "linux/arm64", plain, 2, 1, 0},
		"below a root":     {"multi", "", usr, 3, 2, 2},
		"one below a root": {"single", "", usr, 1, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			m.asked = nil
			mustApply(t, m, test.ref, Recipe{Layers: []Layer{test.layer}}, test.platforms)
			count := map[string]int{}
			for _, a := range m.asked {
				count[strings.Fields(a)[0]]++
			}
			if diff := cmp.Diff([]int{test.manifests, test.blobs, test.layers}, []int{count["manifest"], count["blob"], count["layer"]}); diff != "" {
				t.Errorf("manifests, blobs, layers (-want +got):\n%s\n%v", diff, m.asked)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	m := newMemory()
	manifest := func(tag, text string) string { m.add(ocispec.MediaTypeImageManifest, text, tag); return tag }
	good := m.image("amd64", "")
	var layers []string
	for range 125 {
		layers = append(layers, `{"digest":"`+digest.FromString("x").String()+`","size":1}`)
	}
	full := m.add(ocispec.MediaTypeImageConfig, `{"os":"linux","architecture":"amd64","rootfs":{"diff_ids":["`+strings.Repeat(`sha256:x","`, 124)+`sha256:x"]}}`)
	config := func(text string) string {
		return manifest(digest.FromString(text).Encoded()[:8], `{"schemaVersion":2,"config":`+descriptor(m.add(ocispec.MediaTypeImageConfig, text))+`,"layers":[]}`)
	}
	for name, test := range map[string]struct{ ref, says string }{
		"schema 1":           {func() string { m.add(dockerSigned1, `{"schemaVersion":1,"fsLayers":[]}`, "s1"); return "s1" }(), "schema 1"},
		"artifact":           {manifest("art", `{"schemaVersion":2,"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json"},"layers":[]}`), "helm"},
		"unknown type":       {manifest("unk", `{"mediaType":"text/plain"}`), "text/plain"},
		"not JSON":           {manifest("bad", `{"schemaVersion":`), "too early"},
		"not an object":      {manifest("arr", `[]`), "object"},
		"text after":         {manifest("aft", `{"schemaVersion":2} x`), ""},
		"member twice":       {manifest("two", `{"layers":[],"layers":[]}`), `"layers" appears twice`},
		"wrong type":         {manifest("wrg", `{"schemaVersion":2,"config":`+descriptor(good)+`,"layers":{}}`), ""},
		"no diff IDs":        {manifest("dif", `{"schemaVersion":2,"config":`+descriptor(m.add(ocispec.MediaTypeImageConfig, `{"rootfs":{}}`))+`,"layers":[{"digest":"`+digest.FromString("x").String()+`","size":1}]}`), "1 layers, its config 0 diff_ids"},
		"config not JSON":    {config(`{"rootfs"`), ""},
		"env of wrong type":  {config(`{"config":{"Env":"A=b"}}`), "Env"},
		"entrypoint wrong":   {config(`{"config":{"Entrypoint":{}}}`), "Entrypoint"},
		"history wrong":      {config(`{"history":[1]}`), "history"},
		"too many layers":    {manifest("full", `{"schemaVersion":2,"config":`+descriptor(full)+`,"layers":[`+strings.Join(layers, ",")+`]}`), "126"},
		"endless layers":     {manifest("end", `{"schemaVersion":2,"config":`+descriptor(full)+`,"layers":[`+strings.Repeat("{},", maxChildren)+`{}]}`), "1025 layers"},
		"endless index":      {manifest("idx", `{"schemaVersion":2,"mediaType":"`+ocispec.MediaTypeImageIndex+`","manifests":[`+strings.Repeat("{},", maxChildren)+`{}]}`), "1025 entries"},
		"too large a result": {config(`{"x":"` + strings.Repeat("x", maxObject) + `"}`), "bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := apply(t, m, test.ref, Recipe{Env: []string{"A=b"}, Layers: []Layer{{Digest: digest.FromString("l"), DiffID: digest.FromString("d")}}}, "")
			refusal, ok := errors.AsType[*Error](err)
			if !ok || !strings.Contains(refusal.Error(), test.says) || strings.Contains(refusal.Error(), "\n") {
				t.Errorf("error %v, want a refusal with %q", err, test.says)
			}
		})
	}
	for _, r := range []Recipe{{Env: []string{"=x"}}, {Env: []string{"x"}}, {WorkingDir: "rel"}, {Cmd: []string{"a\x00"}}} {
		if _, err := apply(t, m, good.Digest.String(), r, ""); err == nil {
			t.Errorf("recipe %+v was taken", r)
		}
	}
	if _, err := apply(t, m, "absent", Recipe{}, ""); err == nil {
		t.Error("an absent image was augmented")
	} else if _, ok := errors.AsType[*Error](err); ok {
		t.Errorf("the source's error became a refusal: %v", err)
	}
}

func TestNestedIndex(t *testing.T) {
	m := newMemory()
	inner := m.index("", descriptor(m.image("amd64", ""), platform("amd64")))
	m.index("outer", descriptor(inner))
	img := mustApply(t, m, "outer", Recipe{Env: []string{"A=b"}}, "linux/amd64")
	refs, err := img.object(t, img.Root.Digest).References(t.Context())
	if err != nil || len(refs.Manifests) != 1 || refs.Manifests[0].Digest == inner.Digest {
		t.Errorf("entries %+v, %v", refs.Manifests, err)
	}
	last := inner
	for range maxDepth {
		last = m.index("", descriptor(last))
	}
	m.index("deep", descriptor(last))
	if _, err := apply(t, m, "deep", Recipe{Env: []string{"A=b"}}, ""); err == nil || !strings.Contains(err.Error(), "nested") {
		t.Errorf("error %v, want one about nesting", err)
	}
}
