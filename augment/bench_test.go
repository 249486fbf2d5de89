package augment_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/augment/archivetest"
	"github.com/waveproxy/waveproxy/layerindex"
)

// BenchmarkApply rewrites images whose documents are in memory, with a layer for which
// the base image's layers are looked at once.
func BenchmarkApply(b *testing.B) {
	src := documents{}
	var entries []ocispec.Descriptor
	for _, arch := range []string{"amd64", "arm64"} {
		d := src.image(arch, 8)
		d.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
		entries = append(entries, d)
	}
	recipe := augment.Recipe{
		Layers:     []augment.Layer{{Digest: digest.FromString("layer"), Size: 1 << 20, DiffID: digest.FromString("diff")}},
		Env:        []string{"PATH=/opt/bin:/usr/bin:/bin", "A=b"},
		Entrypoint: []string{"/opt/bin/entry"},
	}
	for _, test := range []struct {
		name string
		root digest.Digest
	}{
		{"8 layers", entries[0].Digest},
		{"60 layers", src.image("amd64", 60).Digest},
		{"index of 2", src.add(ocispec.MediaTypeImageIndex, ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: entries}).Digest},
	} {
		b.Run(test.name, func(b *testing.B) {
			augmenter := augment.NewAugmenter(125)
			request := augment.Request{Name: "docker.io/library/base:1", Reference: test.root.String(), Recipe: recipe,
				AddedIndex: func(ctx context.Context, _ augment.Layer) (*layerindex.Index, error) {
					return layerindex.Read(ctx, bytes.NewReader(archivetest.Layer(b, archivetest.File{Name: "opt/bin/entry"})))
				}}
			b.ReportAllocs()
			for b.Loop() {
				image, err := augmenter.Apply(b.Context(), src, request)
				if err != nil {
					b.Fatal(err)
				}
				if image.Root.Digest == test.root {
					b.Fatal("nothing was added")
				}
			}
		})
	}
}

// documents is a Source of manifests and configs, by digest.
type documents map[string]augment.Object

func (d documents) add(mediaType string, v any) ocispec.Descriptor {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	o := augment.NewObject(mediaType, data)
	d[o.Digest.String()] = o
	return o.Descriptor()
}

func (d documents) image(arch string, layers int) ocispec.Descriptor {
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: arch}, RootFS: ocispec.RootFS{Type: "layers"}}
	config.Config.Env = []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for i := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromString(fmt.Sprint("diff", i)))
		config.History = append(config.History, ocispec.History{CreatedBy: fmt.Sprintf("RUN make layer-%d # buildkit", i), Comment: "buildkit.dockerfile.v0"})
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString(fmt.Sprint("layer", i)), Size: 50e6})
	}
	m.Config = d.add(ocispec.MediaTypeImageConfig, config)
	return d.add(ocispec.MediaTypeImageManifest, m)
}

func (d documents) Manifest(_ context.Context, ref string) (augment.Object, error) {
	o, ok := d[ref]
	if !ok {
		return o, fmt.Errorf("no document %s", ref)
	}
	return o, nil
}

func (d documents) Blob(ctx context.Context, desc ocispec.Descriptor) (augment.Object, error) {
	return d.Manifest(ctx, desc.Digest.String())
}

func (d documents) Index(ctx context.Context, desc ocispec.Descriptor) (*layerindex.Index, error) {
	return layerindex.Read(ctx, bytes.NewReader(make([]byte, 1024))) // an empty archive
}

func (d documents) Files(context.Context, ocispec.Descriptor, []string) (map[string]layerindex.File, error) {
	return nil, nil
}
