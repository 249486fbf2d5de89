package augment

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestRewriteIsForOneBase: how a layer is rewritten is remembered for the links of its
// base, whatever the links of other images look like when they are written down.
func TestRewriteIsForOneBase(t *testing.T) {
	const debian = "debian"
	want := map[string]string{"usr/bin/tool": "tool", "usr/lib/tool.so": "so", "usr/sbin/tool": "root's"}
	for name, other := range map[string][]file{
		"one for three":     {link("bin", "usr/bin lib:usr/lib sbin:usr/sbin"), dir("lib/"), dir("sbin/")},
		"the first for two": {link("bin", "usr/bin lib:usr/lib"), dir("lib/"), link("sbin", "usr/sbin")},
		"the last for two":  {link("bin", "usr/bin"), link("lib", "usr/lib sbin:usr/sbin"), dir("sbin/")},
		"quoted":            {link("bin", `usr/bin" "lib" "usr/lib`), dir("lib/"), link("sbin", "usr/sbin")},
		"quoted line":       {link("bin", "usr/bin\"\n\"lib\" \"usr/lib"), dir("lib/"), link("sbin", "usr/sbin")},
		"line":              {link("bin", "usr/bin\nlib usr/lib"), dir("lib/"), link("sbin", "usr/sbin")},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			base := func(tag string, files []file) {
				l := m.layer(archive(files...))
				config := m.add(ocispec.MediaTypeImageConfig, fmt.Sprintf(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[%q]}}`, l.DiffID))
				m.add(ocispec.MediaTypeImageManifest, fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
					descriptor(config), ocispec.MediaTypeImageLayerGzip, l.Digest, l.Size), tag)
			}
			base(debian, []file{link("bin", "usr/bin"), link("lib", "usr/lib"), link("sbin", "usr/sbin"), dir("usr/")})
			base("other", other)
			layer := m.layer(archive(file{name: "bin/tool", text: "tool"}, file{name: "lib/tool.so", text: "so"}, file{name: "sbin/tool", text: "root's"}))
			a := NewAugmenter(125)
			apply := func(tag string) Layer {
				img, err := a.Apply(t.Context(), m, Request{Name: "example.com/" + tag, Reference: tag, Recipe: Recipe{Layers: []Layer{layer}}, Archives: m})
				if err != nil {
					t.Fatal(err)
				}
				return img.Layers[0]
			}
			apply("other")
			if diff := cmp.Diff(want, m.unpacked(t, apply(debian))); diff != "" {
				t.Errorf("the layer was rewritten for the links of another image (-want +got):\n%s", diff)
			}
		})
	}
}
