package augment

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// lists are the platforms of indexes, in their order.
var lists = []string{
	"linux/amd64,linux/arm64",
	"linux/amd64,linux/amd64/v3,linux/arm64/v8",
	"linux/amd64/v3,linux/amd64/v2,linux/amd64",
	"linux/amd64/v4,linux/amd64",
	"linux/amd64/v3,linux/amd64/v1",
	"linux/386,linux/s390x",
	"linux/arm/v5,linux/arm/v6,linux/amd64",
	"linux/arm,linux/arm/v6",
	"linux/arm/v7,linux/arm64/v9,linux/arm64",
	"linux/arm64/v8.2,linux/arm64/v9.1,linux/arm64/v8.5",
	"windows/amd64,linux/arm/v8",
	"linux/riscv64,linux/ppc64le,linux/loong64",
}

// engineChoice returns the entry that containerd chooses for a platform, or "".
func engineChoice(t *testing.T, want string, list []string) string {
	t.Helper()
	p, err := platforms.Parse(want)
	if err != nil {
		t.Fatal(err)
	}
	engine, choice := platforms.Only(p), ""
	for _, name := range list {
		have, err := ParsePlatform(name)
		if err != nil {
			t.Fatal(err)
		}
		if engine.Match(have) && (choice == "" || engine.Less(have, platforms.MustParse(choice))) {
			choice = name
		}
	}
	return choice
}

// indexOf adds an index of images for the platforms and returns the manifests' names.
func indexOf(m *memory, tag, list string) []string {
	var entries []string
	names := strings.Split(list, ",")
	for i, name := range names {
		p, err := ParsePlatform(name)
		if err != nil {
			panic(err)
		}
		entries = append(entries, descriptor(m.image(p.Architecture, fmt.Sprintf(`,"n":%d`, i)), fmt.Sprintf(`"platform":{"os":%q,"architecture":%q,"variant":%q}`, p.OS, p.Architecture, p.Variant)))
	}
	m.index(tag, entries...)
	return names
}

// TestChoosesAsContainerd: for a platform that was asked for, the image is the one that
// an engine would choose from the base. Through a recipe, an engine finds in the
// augmented index what it would choose from the base.
func TestChoosesAsContainerd(t *testing.T) {
	recipe := Recipe{Env: []string{"A=b"}}
	for _, list := range lists {
		m := newMemory()
		names := indexOf(m, "x", list)
		all := mustApply(t, m, "x", recipe, "")
		for _, want := range []string{
			"linux/amd64", "linux/amd64/v2", "linux/amd64/v3", "linux/amd64/v4", "linux/386", "linux/arm64", "linux/arm64/v8", "linux/arm64/v9",
			"linux/arm64/v8.4", "linux/arm64/v9.2", "linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm/v8", "linux/s390x", "windows/amd64",
		} {
			choice := engineChoice(t, want, names)
			if got := engineChoice(t, want, platformsOf(t, all)); got != "" && FormatPlatform(platforms.MustParse(got)) != FormatPlatform(platforms.MustParse(choice)) {
				t.Errorf("%s of %s through a recipe: an engine chooses %q, of the base %q", want, list, got, choice)
			}
			img, err := apply(t, m, "x", recipe, want)
			if choice == "" {
				// Without a variant, every variant of the architecture is asked for.
				if refusal, ok := errors.AsType[*Error](err); err != nil && (!ok || !strings.Contains(refusal.Error(), "platform "+FormatPlatform(platforms.MustParse(want)))) {
					t.Errorf("%s of %s: %v", want, list, err)
				} else if err == nil && strings.Count(want, "/") == 2 && want != "linux/arm64/v8" {
					t.Errorf("%s of %s: an engine finds nothing, we %v", want, list, platformsOf(t, img))
				}
				continue
			}
			if err != nil {
				t.Errorf("%s of %s: %v", want, list, err)
				continue
			}
			got := platformsOf(t, img)
			if engineChoice(t, want, got) == "" || FormatPlatform(platforms.MustParse(engineChoice(t, want, got))) != FormatPlatform(platforms.MustParse(choice)) {
				t.Errorf("%s of %s: %v, an engine chooses %s", want, list, got, choice)
			}
			if strings.Count(want, "/") == 2 && want != "linux/arm64/v8" && len(got) != 1 {
				t.Errorf("%s of %s: %v, want one image", want, list, got)
			}
		}
	}
}

// platformsOf returns the platforms that an index declares.
func platformsOf(t *testing.T, img *Image) (names []string) {
	t.Helper()
	refs, err := img.object(t, img.Root.Digest).References(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range refs.Manifests {
		if e.Platform != nil {
			names = append(names, FormatPlatform(*e.Platform))
		}
	}
	return names
}

// TestIndexDecides: what an index says of an image decides which layers it gets, and its
// config has what the index does not say.
func TestIndexDecides(t *testing.T) {
	m := newMemory()
	amd, arm := m.layer(archive(file{name: "x", text: "amd64"})), m.layer(archive(file{name: "x", text: "arm64"}))
	amd.Platform, arm.Platform = "linux/amd64", "linux/arm64"
	for name, test := range map[string]struct {
		entry, config string
		layer         Layer
		remarks       int
	}{
		"agree":              {platform("arm64"), "arm64", arm, 0},
		"config says amd64":  {platform("arm64"), "amd64", arm, 1},
		"config says arm64":  {platform("amd64"), "arm64", amd, 1},
		"config says x86_64": {platform("amd64"), "x86_64", amd, 0},
		"config says none":   {platform("arm64"), "", arm, 0},
		"empty platform":     {`"platform":{}`, "arm64", arm, 0},
		"empty strings":      {`"platform":{"os":"","architecture":""}`, "amd64", amd, 0},
		"variant only":       {`"platform":{"variant":"v8"}`, "arm64", arm, 0},
		"no platform":        {`"x":1`, "amd64", amd, 0},
		"no system":          {`"platform":{"architecture":"arm64"}`, "amd64", arm, 1},
		"null":               {`"platform":null`, "arm64", arm, 0},
	} {
		m.index("x", descriptor(m.image(test.config, ""), test.entry))
		img, err := apply(t, m, "x", Recipe{Layers: []Layer{amd, arm}}, "")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(img.Layers) != 1 || img.Layers[0].Digest != test.layer.Digest || len(img.Remarks) != test.remarks {
			t.Errorf("%s: layers %v, remarks %q", name, img.Layers, img.Remarks)
		}
	}
}

// TestAbsent: what the registry has is augmented, and what it lacks is left out and told.
func TestAbsent(t *testing.T) {
	for name, test := range map[string]struct {
		lacks     []string // architectures without a manifest, or a config if they begin with "config "
		platforms string
		has       int
		err       string
	}{
		"one manifest":         {[]string{"arm64"}, "", 2, ""},
		"one config":           {[]string{"config amd64"}, "", 2, ""},
		"two":                  {[]string{"arm64", "config s390x"}, "", 1, ""},
		"another asked for":    {[]string{"arm64"}, "linux/amd64", 1, ""},
		"asked for":            {[]string{"arm64"}, "linux/arm64", 0, "no image for platform linux/arm64: its index names sha256:"},
		"one of two asked for": {[]string{"config s390x"}, "linux/amd64,linux/s390x", 0, "no image for platform linux/s390x: its index names sha256:"},
		"all":                  {[]string{"amd64", "arm64", "config s390x"}, "", 0, "the registry does not have"},
	} {
		m := newMemory()
		var entries []string
		for _, arch := range []string{"amd64", "arm64", "s390x"} {
			img := m.image(arch, "")
			entries = append(entries, descriptor(img, platform(arch)))
			if slices.Contains(test.lacks, arch) {
				delete(m.objects, img.Digest.String())
			}
			if slices.Contains(test.lacks, "config "+arch) {
				refs, err := img.References(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				delete(m.objects, refs.Config.Digest.String())
			}
		}
		m.index("x", entries...)
		m.fault = fmt.Errorf("not found: %w", ErrAbsent)
		img, err := apply(t, m, "x", Recipe{Env: []string{"A=b"}}, test.platforms)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: %v", name, err)
			}
			if _, unfit := errors.AsType[*Unfit](err); unfit {
				t.Errorf("%s: the image would be served as it is", name)
			}
		} else if err != nil || len(platformsOf(t, img)) != test.has || test.platforms == "" && len(img.Absent) != len(test.lacks) {
			t.Errorf("%s: %v, absent %v", name, err, img)
		}
		// Any other failure says nothing of the image.
		m.fault = errors.New("503")
		if _, err := apply(t, m, "x", Recipe{Env: []string{"A=b"}}, ""); !errors.Is(err, m.fault) {
			t.Errorf("%s: failing registry: %v", name, err)
		}
	}
	m := newMemory()
	m.fault = ErrAbsent
	if _, err := apply(t, m, "x", Recipe{}, ""); !errors.Is(err, ErrAbsent) {
		t.Errorf("absent tag: %v", err)
	}
}

// TestArtifacts: what is no image is told from images by its config and its layers.
func TestArtifacts(t *testing.T) {
	m := newMemory()
	tar := m.layer(archive(file{name: "x", text: "x"}))
	const oci, docker = ocispec.MediaTypeImageManifest, dockerManifest
	for name, test := range map[string]struct {
		manifest, config string
		more             string
		layers           []string // media types
		image            bool
	}{
		"plain":                {oci, ocispec.MediaTypeImageConfig, "", []string{ocispec.MediaTypeImageLayer}, true},
		"zstd":                 {oci, ocispec.MediaTypeImageConfig, "", []string{ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd}, true},
		"nondistributable":     {oci, ocispec.MediaTypeImageConfig, "", []string{"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"}, true},
		"encrypted":            {oci, ocispec.MediaTypeImageConfig, "", []string{"application/vnd.oci.image.layer.v1.tar+gzip+encrypted"}, true},
		"Docker, encrypted":    {docker, dockerConfig, "", []string{"application/vnd.docker.image.rootfs.diff.tar.gzip+enc"}, true},
		"Docker, plain":        {docker, dockerConfig, "", []string{"application/vnd.docker.image.rootfs.diff.tar"}, true},
		"Docker, foreign":      {docker, dockerConfig, "", []string{"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}, true},
		"Docker layers in OCI": {oci, ocispec.MediaTypeImageConfig, "", []string{dockerLayer}, true},
		"text/html":            {docker, "text/html", "", []string{dockerLayer}, true},
		"text/html, charset":   {docker, "text/html; charset=utf-8", "", []string{dockerLayer}, true},
		"application/json":     {docker, "application/json", "", []string{dockerLayer}, true},
		"untyped config":       {docker, "", "", []string{dockerLayer}, true},
		"signature":            {oci, ocispec.MediaTypeImageConfig, "", []string{"application/vnd.dev.cosign.simplesigning.v1+json"}, false},
		"attestation":          {oci, ocispec.MediaTypeImageConfig, "", []string{"application/vnd.dsse.envelope.v1+json"}, false},
		"bill of materials":    {oci, ocispec.MediaTypeImageConfig, "", []string{"text/spdx+json"}, false},
		"in-toto":              {oci, ocispec.MediaTypeImageConfig, "", []string{"application/vnd.in-toto+json"}, false},
		"image and statement":  {oci, ocispec.MediaTypeImageConfig, "", []string{ocispec.MediaTypeImageLayerGzip, "application/vnd.in-toto+json"}, false},
		"nydus":                {oci, ocispec.MediaTypeImageConfig, "", []string{"application/vnd.oci.image.layer.nydus.blob.v1", ocispec.MediaTypeImageLayerGzip}, false},
		"model":                {oci, "application/vnd.docker.ai.model.config.v0.1+json", "", []string{"application/vnd.docker.ai.gguf.v3"}, false},
		"wasm":                 {oci, "application/vnd.wasm.config.v0+json", "", []string{"application/wasm"}, false},
		"chart":                {oci, "application/vnd.cncf.helm.config.v1+json", "", []string{"application/vnd.cncf.helm.chart.content.v1.tar+gzip"}, false},
		"empty config":         {oci, "application/vnd.oci.empty.v1+json", "", []string{ocispec.MediaTypeImageLayerGzip}, false},
		"artifact type":        {oci, ocispec.MediaTypeImageConfig, `"artifactType":"application/vnd.example",`, []string{ocispec.MediaTypeImageLayerGzip}, false},
		"type of an image":     {oci, ocispec.MediaTypeImageConfig, `"artifactType":"` + ocispec.MediaTypeImageConfig + `",`, []string{ocispec.MediaTypeImageLayerGzip}, true},
		"generic in OCI":       {oci, "application/octet-stream", "", []string{ocispec.MediaTypeImageLayerGzip}, false},
		"plugin":               {docker, "application/vnd.docker.plugin.v1+json", "", []string{dockerLayer}, false},
		"files":                {docker, "application/json", "", []string{"application/octet-stream"}, false},
	} {
		var diffs, layers []string
		for _, mediaType := range test.layers {
			diffs = append(diffs, fmt.Sprintf("%q", tar.DiffID))
			layers = append(layers, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, tar.Digest, tar.Size))
		}
		config := m.add(test.config, `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[`+strings.Join(diffs, ",")+`]}}`)
		base := m.add(test.manifest, fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,%s"config":%s,"layers":[%s]}`, test.manifest, test.more, descriptor(config), strings.Join(layers, ",")), "x")
		_, err := apply(t, m, "x", Recipe{Env: []string{"A=b"}}, "")
		unfit, isUnfit := errors.AsType[*Unfit](err)
		if test.image && err != nil || !test.image && (!isUnfit || unfit.Image || unfit.Base != base.Digest || !strings.Contains(err.Error(), "not a container image")) {
			t.Errorf("%s: %v", name, err)
		}
		// Beside an image it is left out, and its platform is no platform of the image.
		m.index("beside", descriptor(m.image("arm64", ""), platform("arm64")), descriptor(base, platform("amd64")))
		img := mustApply(t, m, "beside", Recipe{Env: []string{"A=b"}}, "")
		if got := len(platformsOf(t, img)); got == 2 != test.image {
			t.Errorf("%s: %d images in an index", name, got)
		}
	}
	// A bundle of files that claims an image's config.
	bundle := m.add(ocispec.MediaTypeImageConfig, `{}`)
	m.add(oci, `{"schemaVersion":2,"config":`+descriptor(bundle)+`,"layers":[{"mediaType":"`+ocispec.MediaTypeImageLayerGzip+`","digest":"`+tar.Digest.String()+`","size":1}]}`, "bundle")
	// Indexes of artifacts.
	note := m.add(oci, `{"schemaVersion":2,"mediaType":"`+oci+`","artifactType":"a/b","config":`+descriptor(bundle)+`,"layers":[]}`)
	image := m.image("amd64", "")
	m.index("notes", descriptor(note))
	tag := "sha256-" + image.Digest.Encoded()
	m.index(tag, descriptor(note, `"artifactType":"a/b"`), descriptor(image))
	m.index("none")
	for _, ref := range []string{"bundle", "notes", tag, "none"} {
		_, err := apply(t, m, ref, Recipe{Env: []string{"A=b"}}, "")
		if unfit, ok := errors.AsType[*Unfit](err); !ok || unfit.Image {
			t.Errorf("%s: %v", ref, err)
		}
	}
}

// TestUnfitTells: a refusal of a platform names those that the base has, or those that
// the recipe has layers for.
func TestUnfitTells(t *testing.T) {
	m := newMemory()
	indexOf(m, "x", "linux/amd64,linux/arm64")
	layer := m.layer(archive(file{name: "a"}))
	bound := func(names ...string) (r Recipe) {
		for _, name := range names {
			layer.Platform = name
			r.Layers = append(r.Layers, layer)
		}
		return r
	}
	for _, test := range []struct {
		recipe    Recipe
		platforms string
		says      string
	}{
		{bound("linux/amd64"), "linux/arm64", "no layer for platform linux/arm64 of docker.io/library/x:x; it has layers for linux/amd64"},
		{bound("linux/s390x", "", "linux/riscv64"), "", "(linux/amd64, linux/arm64) fits the recipe's layers (any but windows, linux/riscv64, linux/s390x)"},
		{bound("linux/amd64"), "linux/s390x", "no image for platform linux/s390x; it has linux/amd64, linux/arm64"},
	} {
		_, err := apply(t, m, "x", test.recipe, test.platforms)
		if !strings.Contains(fmt.Sprint(err), test.says) {
			t.Errorf("%v\nwant %s", err, test.says)
		}
	}
}
