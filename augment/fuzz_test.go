package augment

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func newBufio(data []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(data)) }

// FuzzManifest rewrites any manifest or index over a good config. The result
// parses and has the added layer.
func FuzzManifest(f *testing.F) {
	m := newMemory()
	base := m.image("amd64", "", "base")
	f.Add(string(base.Data))
	f.Add(string(m.index("multi", descriptor(base, platform("amd64"))).Data))
	f.Add(`{"schemaVersion":2,"config":{},"layers":[],"annotations":{"a":1}}`)
	f.Add(`{"manifests":[null,{},{"digest":"x"}]}`)
	added := m.layer(archive(file{name: "a"}))
	f.Fuzz(func(t *testing.T, text string) {
		src := newMemory()
		for k, o := range m.objects {
			src.objects[k] = o
		}
		src.objects["fuzz"] = NewObject("", []byte(text))
		checkResult(t, src, added)
	})
}

// FuzzConfig rewrites any config below a good manifest.
func FuzzConfig(f *testing.F) {
	f.Add(`{"architecture":"amd64","os":"linux","config":{"Env":["A=b"],"Entrypoint":["x","y"]},"rootfs":{"type":"layers","diff_ids":[]},"history":[]}`)
	f.Add(`{"config":null,"rootfs":null}`)
	f.Add(`{"history":[{"empty_layer":true}],"config":{"Entrypoint":"x"},"odd":1e999}`)
	added := newMemory().layer(archive(file{name: "a"}))
	f.Fuzz(func(t *testing.T, text string) {
		src := newMemory()
		config := src.add(ocispec.MediaTypeImageConfig, text)
		src.add(ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"config":`+descriptor(config)+`,"layers":[]}`, "fuzz")
		checkResult(t, src, added)
	})
}

func checkResult(t *testing.T, src *memory, added Layer) {
	t.Helper()
	img, err := NewAugmenter(125).Apply(t.Context(), src, Request{Name: "x", Reference: "fuzz", Archives: src,
		Recipe: Recipe{Layers: []Layer{added}, Env: []string{"A=c"}, Cmd: []string{"<d>"}, WorkingDir: "/e"}})
	if err != nil {
		return
	}
	byDigest := map[digest.Digest]Object{}
	for _, o := range img.Objects {
		if o.Digest != digest.FromBytes(o.Data) || !json.Valid(o.Data) {
			t.Fatalf("object %s is %s", o.Digest, o.Data)
		}
		byDigest[o.Digest] = o
	}
	for _, o := range img.Objects {
		if !o.IsManifest() {
			continue
		}
		refs, err := o.References(t.Context())
		if err != nil {
			t.Fatalf("manifest %s: %v", o.Data, err)
		}
		config, ok := byDigest[refs.Config.Digest]
		if !ok || int64(len(config.Data)) != refs.Config.Size {
			t.Fatalf("manifest %s has a config that is not there", o.Data)
		}
		var c ocispec.Image
		if err := json.Unmarshal(config.Data, &c); err != nil {
			continue // members that we do not touch may have any type
		}
		if n := len(c.RootFS.DiffIDs); n == 0 || n != len(refs.Layers) || c.RootFS.DiffIDs[n-1] != added.DiffID || c.Config.WorkingDir != "/e" {
			t.Fatalf("config %s does not have what was added", config.Data)
		}
	}
}

// FuzzMembers: an object that is accepted keeps every member, and its members
// decode as the standard library decodes them.
func FuzzMembers(f *testing.F) {
	f.Add(`{"a":1,"b":{"c":[true,null,"\u003c"]},"":1e400}`)
	f.Add(`{"a":1,"a":2}`)
	f.Add(` { } `)
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parseMembers([]byte(text))
		if err != nil {
			return
		}
		var want, got map[string]json.RawMessage
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatalf("taken, but the standard library says %v", err)
		}
		encoded := m.encode()
		if err := json.Unmarshal(encoded, &got); err != nil {
			t.Fatalf("%q became %q: %v", text, encoded, err)
		}
		if !reflect.DeepEqual(fmt.Sprint(want), fmt.Sprint(got)) {
			t.Fatalf("%q became %q", text, encoded)
		}
	})
}

func FuzzParsePlatform(f *testing.F) {
	for _, s := range []string{"amd64", "linux/arm64/v8", "arm64v8", "x86_64", "linux/arm/7", "windows/amd64", "a/b/c/d", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePlatform(s)
		if err != nil {
			return
		}
		again, err := ParsePlatform(FormatPlatform(p))
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Fatalf("%q is %+v, but its text %q is %+v, %v", s, p, FormatPlatform(p), again, err)
		}
	})
}

// FuzzInspect reads any bytes as a layer, and repacks a layer that is accepted.
func FuzzInspect(f *testing.F) {
	f.Add(archive(file{name: "bin/a", text: "x"}, link("bin/l", "../x")))
	f.Add(tarOf(file{name: "a"}))
	f.Add(sparse(4096, 512))
	f.Add(tarOf(file{name: "bin/a", kind: tar.TypeLink, link: "usr/bin/a"}, file{name: "bin/.wh.b"}, file{name: "c", pax: map[string]string{"SCHILY.xattr.user.a": "b"}}))
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		limits := Limits{Bytes: 1 << 20, Entries: 100}
		found, err := Inspect(t.Context(), bytes.NewReader(data), limits)
		if err != nil {
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Fatalf("bytes in memory gave %v", err)
			}
			return
		}
		m := newMemory()
		l, err := Keep(t.Context(), m, bytes.NewReader(data), found)
		if err != nil {
			t.Fatalf("keep: %v", err)
		}
		if l, err = repackOver(t.Context(), m, []Layer{l}, []file{link("bin", "usr/bin")}); err != nil {
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Fatalf("repack: %v", err)
			}
			return
		}
		if again, err := Inspect(t.Context(), bytes.NewReader(m.archives[l.Digest]), DefaultLimits); err != nil || again.DiffID != l.DiffID {
			t.Fatalf("the repacked layer: %v", err)
		}
	})
}
