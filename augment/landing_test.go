package augment

import (
	"archive/tar"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// stacked adds an image of these layers to m.
func (m *memory) stacked(tag, os string, layers ...[]file) {
	var diffIDs, descriptors []string
	for _, files := range layers {
		l := m.layer(archive(files...))
		diffIDs = append(diffIDs, fmt.Sprintf("%q", l.DiffID))
		descriptors = append(descriptors, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, ocispec.MediaTypeImageLayerGzip, l.Digest, l.Size))
	}
	config := m.add(ocispec.MediaTypeImageConfig, fmt.Sprintf(`{"architecture":"amd64","os":%q,"rootfs":{"type":"layers","diff_ids":[%s]}}`, os, strings.Join(diffIDs, ",")))
	m.add(ocispec.MediaTypeImageManifest, fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[%s]}`, descriptor(config), strings.Join(descriptors, ",")), tag)
}

// TestLanding: added layers stand in the image as they land in all layers of the base.
func TestLanding(t *testing.T) {
	base := [][]file{
		{dir("etc/"), {name: "tmp", kind: tar.TypeDir, mode: 0o1777}, dir("usr/bin/"), {name: "root/", kind: tar.TypeDir, mode: 0o700}, link("var/spool", "/srv/spool")},
		{link("bin", "usr/bin"), link("opt", "var/opt"), dir("var/opt/"), {name: "usr/bin/sh"}},
		{{name: ".wh.opt"}, {name: "opt/x"}},
	}
	for name, test := range map[string]struct {
		added [][]file
		want  []map[string]string // nil: the layer stays
	}{
		"it stays": {[][]file{{dir("usr/"), {name: "usr/bin/a", text: "a"}, {name: "opt/y"}}}, []map[string]string{nil}},
		"links of any layer": {[][]file{{{name: "bin/a", text: "a"}, {name: "var/spool/b", text: "b"}, {name: "opt/c", text: "c"}}},
			[]map[string]string{{"usr/bin/a": "a", "srv/spool/b": "b", "opt/c": "c"}}},
		"modes": {[][]file{{{name: "tmp/", kind: tar.TypeDir, mode: 0o700}, {name: "tmp/a"}, {name: "root/b"}}}, []map[string]string{{"tmp/": "dir", "tmp/a": "", "root/": "dir", "root/b": ""}}},
		// An opaque marker is the only entry, in a directory at the root.
		"opaque, a link":   {[][]file{{{name: "bin/.wh..wh..opq"}}}, []map[string]string{{"usr/bin/.wh..wh..opq": ""}}},
		"opaque, a mode":   {[][]file{{{name: "root/.wh..wh..opq"}}}, []map[string]string{{"root/": "dir", "root/.wh..wh..opq": ""}}},
		"opaque, as it is": {[][]file{{{name: "usr/.wh..wh..opq"}}}, []map[string]string{nil}},
		"a link of ours":   {[][]file{{dir("data/"), link("work", "data")}, {{name: "work/x", text: "x"}}}, []map[string]string{nil, {"data/x": "x"}}},
		// Without an entry for bin, containerd would look for its attributes behind the link.
		"a whiteout of ours": {[][]file{{{name: ".wh.bin"}}, {{name: "bin/x", text: "x"}}}, []map[string]string{nil, {"bin/": "dir", "bin/x": "x"}}},
		"moved, then below":  {[][]file{{link("bin/alias", "/opt")}, {{name: "usr/bin/alias/x", text: "x"}}}, []map[string]string{{"usr/bin/alias": "-> /opt"}, {"opt/x": "x"}}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			m.stacked("1", "linux", base...)
			var recipe Recipe
			for _, files := range test.added {
				recipe.Layers = append(recipe.Layers, m.layer(archive(files...)))
			}
			img := mustApply(t, m, "1", recipe, "")
			refs, err := img.object(t, img.Root.Digest).References(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for i, d := range refs.Layers[len(base):] {
				at := slices.IndexFunc(img.Layers, func(l Layer) bool { return l.Digest == d.Digest })
				if stays := d.Digest == recipe.Layers[i].Digest; stays || test.want[i] == nil {
					if !stays || test.want[i] != nil {
						t.Errorf("layer %d: it stays: %v", i, stays)
					}
				} else if diff := cmp.Diff(test.want[i], m.unpacked(t, img.Layers[at])); diff != "" {
					t.Errorf("layer %d (-want +got):\n%s", i, diff)
				}
			}
		})
	}
}

// TestLandingOfEachBase: a layer whose own link leads its later entries elsewhere on each
// base is never taken from another base.
func TestLandingOfEachBase(t *testing.T) {
	m := newMemory()
	bases := map[string]string{"with": "c/opt/opt/bin/bin", "without": "c/a/bin/bin"}
	m.stacked("with", "linux", []file{dir("c/"), link("c/usr", "../c"), link("c/a", "opt/opt")})
	m.stacked("without", "linux", []file{dir("c/"), link("c/usr", "../c")})
	recipe := Recipe{Layers: []Layer{m.layer(archive(link("c/usr/usr", "/./c//a/"), file{name: "c/usr/bin/bin"}))}}
	a := NewAugmenter(125)
	for _, tag := range []string{"with", "without", "with"} {
		img, err := a.Apply(t.Context(), m, Request{Name: "x", Reference: tag, Recipe: recipe, Archives: m})
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"c/usr": "-> /./c//a/", bases[tag]: ""}
		if diff := cmp.Diff(want, m.unpacked(t, img.Layers[0])); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tag, diff)
		}
	}
}

// TestLandingMerged: layers that are merged land as they do one after the other.
func TestLandingMerged(t *testing.T) {
	m := newMemory()
	m.stacked("1", "linux", []file{link("bin", "usr/bin"), {name: "usr/bin/sh"}, {name: "a/old"}, {name: "usr/", kind: tar.TypeDir, mode: 0o711}})
	recipe := Recipe{}
	for _, files := range [][]file{
		{{name: "bin/x", text: "1"}, link("tools", "bin"), {name: "a", text: "file"}},
		{{name: "tools/x", text: "2"}, dir("a/"), {name: "a/new"}, {name: "bin/.wh.sh"}},
	} {
		recipe.Layers = append(recipe.Layers, m.layer(archive(files...)))
	}
	img, err := NewAugmenter(2).Apply(t.Context(), m, Request{Name: "x", Reference: "1", Recipe: recipe, Archives: m})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"usr/": "dir", "usr/bin/x": "2", "tools": "-> bin", "a/.wh..wh..opq": "", "a/": "dir", "a/new": "", "usr/bin/.wh.sh": ""}
	if diff := cmp.Diff(want, m.unpacked(t, img.Layers[0])); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestLandingRefused: circles of links and layers that cannot be read are refused with
// what needs them; images for Windows are not looked at.
func TestLandingRefused(t *testing.T) {
	m := newMemory()
	m.stacked("circle", "linux", []file{link("lib", "lib64"), link("lib64", "lib")})
	layer := m.layer(archive(file{name: "lib/tool.so"}))
	_, err := apply(t, m, "circle", Recipe{Layers: []Layer{layer}}, "")
	refused(t, err, `"lib/tool.so" cannot be added: the link "lib`)

	m.stacked("gone", "linux", []file{{name: "x"}})
	m.stacked("windows", "windows", []file{{name: "x"}})
	gone := m.layer(archive(file{name: "x"})).Digest
	delete(m.archives, gone)
	_, err = apply(t, m, "gone", Recipe{Layers: []Layer{layer}}, "")
	if err == nil || !strings.Contains(err.Error(), "lib/tool.so") || !strings.Contains(err.Error(), gone.String()) {
		t.Errorf("a layer that cannot be read: %v", err)
	}
	if _, ok := errors.AsType[*Error](err); ok {
		t.Errorf("the image is blamed: %v", err)
	}
	windows := layer
	windows.Platform = "windows/amd64"
	if _, err := apply(t, m, "windows", Recipe{Layers: []Layer{windows}}, ""); err != nil {
		t.Errorf("windows: %v", err)
	}
	root := m.layer(archive(file{name: "entry.sh"}, link("app", "/opt/app")))
	if _, err := apply(t, m, "gone", Recipe{Layers: []Layer{root}}, ""); err != nil {
		t.Errorf("files at the root: %v", err)
	}
}
