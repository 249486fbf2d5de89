//go:build linux

package main

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// layer is an archive in the upstream's tree.
type layer struct {
	ocispec.Descriptor
	diffID digest.Digest
}

// document is a manifest, an index or a config.
type document struct {
	ocispec.Descriptor
	data []byte
}

// images are the images of all measurements. Their bytes are the same in every run.
type images struct {
	tree     string // directory of all blobs, by digest
	typical  document
	config   document
	layers   []layer // of typical
	index    document
	children []document // the index' manifests and configs
	small    layer      // a few files, as most recipes add
	large    layer      // as large as the upstream's layers
}

// repository is the name of the typical image.
const repository = "library/typical"

// makeImages writes images whose large layers have the given number of bytes.
func makeImages(tree string, layers int, layerSize int64) (*images, error) {
	if err := os.MkdirAll(tree, 0o755); err != nil {
		return nil, err
	}
	im := &images{tree: tree}
	seed := byte(0)
	add := func(size int64) (layer, error) {
		seed++
		return writeLayer(tree, seed, size)
	}
	for range layers {
		l, err := add(layerSize)
		if err != nil {
			return nil, err
		}
		im.layers = append(im.layers, l)
	}
	im.typical, im.config = describe("amd64", im.layers)
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, arch := range []string{"amd64", "arm64"} {
		l, err := add(1 << 20)
		if err != nil {
			return nil, err
		}
		manifest, config := describe(arch, []layer{l})
		im.children = append(im.children, manifest, config)
		desc := manifest.Descriptor
		desc.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
		index.Manifests = append(index.Manifests, desc)
	}
	im.index = encode(ocispec.MediaTypeImageIndex, index)
	var err error
	if im.small, err = add(4 << 10); err != nil {
		return nil, err
	}
	if im.large, err = add(layerSize); err != nil {
		return nil, err
	}
	return im, os.WriteFile(im.path(im.config.Digest), im.config.data, 0o644)
}

// path returns the file of a blob in the tree.
func (im *images) path(d digest.Digest) string { return filepath.Join(im.tree, d.String()) }

// size returns the number of bytes in the typical image's layers.
func (im *images) size() (sum int64) {
	for _, l := range im.layers {
		sum += l.Size
	}
	return sum
}

// describe writes the config and manifest of an image.
func describe(arch string, layers []layer) (manifest, config document) {
	c := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: arch}, RootFS: ocispec.RootFS{Type: "layers"}}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	c.Config.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	c.Config.Cmd = []string{"/bin/sh"}
	for i, l := range layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, l.diffID)
		c.History = append(c.History, ocispec.History{CreatedBy: fmt.Sprintf("ADD layer %d", i)})
		m.Layers = append(m.Layers, l.Descriptor)
	}
	config = encode(ocispec.MediaTypeImageConfig, c)
	m.Config = config.Descriptor
	return encode(ocispec.MediaTypeImageManifest, m), config
}

// encode returns v as JSON. It panics on values without a JSON form, which do not
// occur here.
func encode(mediaType string, v any) document {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return document{ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}, data}
}

// writeLayer writes an archive with one file of random bytes. They do not compress,
// as the compressed bytes of real layers do not compress further.
func writeLayer(tree string, seed byte, size int64) (layer, error) {
	partial := filepath.Join(tree, "partial")
	f, err := os.Create(partial)
	if err != nil {
		return layer{}, err
	}
	defer f.Close()
	whole, plain := sha256.New(), sha256.New()
	z, err := gzip.NewWriterLevel(io.MultiWriter(f, whole), gzip.NoCompression)
	if err != nil {
		return layer{}, err
	}
	w := tar.NewWriter(io.MultiWriter(z, plain))
	// Not under /bin or /lib, because for these waveproxy looks at the base image.
	err = w.WriteHeader(&tar.Header{Name: fmt.Sprintf("opt/bench/%d", seed), Typeflag: tar.TypeReg, Mode: 0o644, Size: size})
	if err != nil {
		return layer{}, err
	}
	if _, err := io.CopyN(w, rand.NewChaCha8([32]byte{seed}), size); err != nil {
		return layer{}, err
	}
	for _, c := range []io.Closer{w, z} {
		if err := c.Close(); err != nil {
			return layer{}, err
		}
	}
	info, err := f.Stat()
	if err != nil {
		return layer{}, err
	}
	l := layer{
		ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.NewDigest(digest.SHA256, whole), Size: info.Size()},
		digest.NewDigest(digest.SHA256, plain),
	}
	return l, os.Rename(partial, filepath.Join(tree, l.Digest.String()))
}
