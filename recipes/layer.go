package recipes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/containerconfig"
)

// layersOf takes in the layers of a document, and returns the errors of layers
// that cannot be taken in.
func (l Loader) layersOf(ctx context.Context, d containerconfig.Document) (taken []augment.Layer, failed []error) {
	for i, wanted := range d.Config.Layers {
		layer, err := l.fromDocument(ctx, d, wanted)
		if err == nil && d.Arch != "" {
			layer.Platform, err = bind(layer, "linux/"+d.Arch)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: layers[%d]: %w", d, i, err))
			continue
		}
		taken = append(taken, layer)
	}
	return taken, failed
}

// bind returns platform, unless the layer has another one by its name.
func bind(layer augment.Layer, platform string) (string, error) {
	if layer.Platform != "" && layer.Platform != platform {
		return "", fmt.Errorf("is for %s by its name, and the document for %s", layer.Platform, platform)
	}
	return platform, nil
}

// fromDocument takes in one layer of a document. A URL must be pinned: otherwise
// the next start, or another server, could get other bytes from it.
func (l Loader) fromDocument(ctx context.Context, d containerconfig.Document, wanted containerconfig.Layer) (augment.Layer, error) {
	want, err := wanted.Expected("layer")
	if err != nil {
		return augment.Layer{}, err
	}
	path, isFile, err := d.LayerPath(wanted)
	switch {
	case err != nil:
		return augment.Layer{}, err
	case isFile:
		return l.archive(ctx, path, want)
	case wanted.IsRemote() && want.Digest == "":
		return augment.Layer{}, errors.New("has no gzipDigest: what is at a URL must be pinned")
	}
	taker := &containerconfig.Taker{Layers: l.Layers, Staged: l.Store, MaxInline: l.MaxInline}
	// The identity of no recipe: layers that a document names are read anonymously.
	return taker.Take(ctx, auth.RecipeIdentity(""), wanted)
}

// take takes in a layer of the configuration.
func (l Loader) take(ctx context.Context, layer Layer) (augment.Layer, error) {
	taken, err := l.open(ctx, layer)
	taken.OwnModes = layer.OwnModes
	if err == nil && layer.Platform != "" {
		taken.Platform, err = bind(taken, layer.Platform)
	}
	return taken, err
}

func (l Loader) open(ctx context.Context, layer Layer) (augment.Layer, error) {
	if layer.URL != "" {
		return l.Layers.Remote(ctx, layer.URL, assemble.Expected{Digest: layer.Digest})
	}
	info, err := os.Stat(layer.Path)
	switch {
	case err != nil:
		return augment.Layer{}, err
	case info.IsDir():
		return l.directory(ctx, layer.Path, cmp.Or(layer.Target, "/"))
	case layer.Target != "":
		return augment.Layer{}, fmt.Errorf("%s is not a directory, and only a directory takes a target: an archive says itself where its files go", layer.Path)
	}
	return l.archive(ctx, layer.Path, assemble.Expected{})
}

func (l Loader) archive(ctx context.Context, path string, want assemble.Expected) (augment.Layer, error) {
	info, err := os.Stat(path)
	if err != nil {
		return augment.Layer{}, err
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait for a writer
		return augment.Layer{}, fmt.Errorf("%s is not a file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return augment.Layer{}, err
	}
	defer f.Close()
	layer, err := l.Layers.Local(ctx, f, path, want)
	if err != nil {
		return augment.Layer{}, fmt.Errorf("%s: %w", path, err)
	}
	return layer, nil
}

// directory takes in a directory, which is packed meanwhile.
func (l Loader) directory(ctx context.Context, path, target string) (augment.Layer, error) {
	r, w := io.Pipe()
	packed := make(chan struct{})
	go func() {
		defer close(packed)
		w.CloseWithError(augment.Pack(w, os.DirFS(path), target))
	}()
	stop := context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
	layer, err := l.Layers.Local(ctx, r, path, assemble.Expected{})
	stop()
	r.Close()
	<-packed
	if err != nil {
		return augment.Layer{}, fmt.Errorf("%s: %w", path, err)
	}
	return layer, nil
}
