package augment_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"testing/fstest"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/layerindex"
)

// base is a Source whose documents are in memory, by digest and tag.
type base map[string]augment.Object

func (b base) Manifest(_ context.Context, ref string) (augment.Object, error) {
	o, ok := b[ref]
	if !ok {
		return o, fmt.Errorf("no manifest %s", ref)
	}
	return o, nil
}

func (b base) Blob(ctx context.Context, d ocispec.Descriptor) (augment.Object, error) {
	return b.Manifest(ctx, d.Digest.String())
}

// Index returns the index of an empty layer.
func (b base) Index(ctx context.Context, _ ocispec.Descriptor) (*layerindex.Index, error) {
	return layerindex.Read(ctx, bytes.NewReader(make([]byte, 1024)))
}

// Files returns nothing: the layers are empty.
func (b base) Files(context.Context, ocispec.Descriptor, []string) (map[string]layerindex.File, error) {
	return nil, nil
}

// add stores a document and returns its descriptor.
func (b base) add(mediaType string, document any) ocispec.Descriptor {
	data, err := json.Marshal(document)
	if err != nil {
		panic(err)
	}
	o := augment.NewObject(mediaType, data)
	b[o.Digest.String()] = o
	return o.Descriptor()
}

// newBase returns a one-layer image for linux/amd64 with the tag "latest".
func newBase() base {
	b := base{}
	config := b.add(ocispec.MediaTypeImageConfig, ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		Config:   ocispec.ImageConfig{Env: []string{"PATH=/bin"}, Cmd: []string{"sh"}},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString("tar")}},
	})
	manifest := b.add(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    config,
		Layers:    []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString("gzip"), Size: 4}},
	})
	b["latest"] = b[manifest.Digest.String()]
	return b
}

// A directory becomes a layer, and an image in memory gets the layer and a
// variable. What the base image's own layer has decides where the files land.
func ExampleAugmenter_Apply() {
	ctx := context.Background()

	var archive bytes.Buffer
	tree := fstest.MapFS{"tools/hello": {Data: []byte("#!/bin/sh\necho hello\n"), Mode: 0o755}}
	if err := augment.Pack(&archive, tree, "/opt"); err != nil {
		fmt.Println(err)
		return
	}
	data := archive.Bytes()
	found, err := augment.Inspect(ctx, &archive, augment.DefaultLimits)
	if err != nil {
		fmt.Println(err)
		return
	}

	src := newBase()
	image, err := augment.NewAugmenter(125).Apply(ctx, src, augment.Request{
		Name:      "registry.example.com/tools:latest",
		Reference: "latest",
		Recipe:    augment.Recipe{Layers: []augment.Layer{found.Layer}, Env: []string{"GREETING=hello"}},
		AddedIndex: func(ctx context.Context, _ augment.Layer) (*layerindex.Index, error) {
			return layerindex.Read(ctx, bytes.NewReader(data))
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	for _, o := range image.Objects {
		if !o.IsManifest() {
			continue
		}
		refs, err := o.References(ctx)
		if err != nil {
			fmt.Println(err)
			return
		}
		for i, l := range refs.Layers {
			fmt.Println("layer", i, l.MediaType, "injected:", l.Digest == found.Digest)
		}
	}
	fmt.Println("same image:", image.Root.Digest == image.Base)
	// Output:
	// layer 0 application/vnd.oci.image.layer.v1.tar+gzip injected: false
	// layer 1 application/vnd.oci.image.layer.v1.tar+gzip injected: true
	// same image: false
}
