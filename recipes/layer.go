package recipes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/waveproxy/waveproxy/api"
	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
)

// layersOf takes in the layers of a document, and says which cannot be.
func (l Loader) layersOf(ctx context.Context, d document) (taken []augment.Layer, failed []error) {
	for i, said := range d.config.Layers {
		key := fmt.Sprintf("layers[%d]", i)
		layer, err := l.listed(ctx, d, said)
		if err == nil && d.arch != "" {
			layer.Platform, err = bind(layer, "linux/"+d.arch)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %s: %w", d, key, err))
			continue
		}
		taken = append(taken, layer)
	}
	return taken, failed
}

// bind returns the platform of a layer, which may have one by its name.
func bind(layer augment.Layer, platform string) (string, error) {
	if layer.Platform != "" && layer.Platform != platform {
		return "", fmt.Errorf("is for %s by its name, and the document for %s", layer.Platform, platform)
	}
	return platform, nil
}

// listed takes in one layer of a document. What is not pinned could be something
// else with the next start, or on another server. Names of files are relative to
// the document, and only one that is a file itself may have them.
func (l Loader) listed(ctx context.Context, d document, said api.ContainerLayer) (augment.Layer, error) {
	want, err := said.Expected("layer")
	if err != nil {
		return augment.Layer{}, err
	}
	scheme, rest, _ := strings.Cut(said.Location, ":")
	own, isFile := FilePath(d.name)
	switch {
	case scheme == "file" && !isFile:
		return augment.Layer{}, errors.New("location names a file, which only a document that is a file itself may do")
	case scheme == "file":
		if !filepath.IsAbs(rest) {
			rest = filepath.Join(filepath.Dir(own), rest)
		}
		return l.archive(ctx, rest, want)
	case (scheme == "http" || scheme == "https") && want.Digest == "":
		return augment.Layer{}, errors.New("has no gzipDigest: what is at a URL must be pinned")
	}
	// Nobody's identity: what a document names is read anonymously.
	return api.TakeLayer(ctx, l.Layers, l.Store, auth.RecipeIdentity(""), said.Location, want, l.MaxInline)
}

// take takes in a layer of the configuration.
func (l Loader) take(ctx context.Context, layer Layer) (augment.Layer, error) {
	taken, err := l.open(ctx, layer)
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
		return augment.Layer{}, fmt.Errorf("%s is not a directory, and only one takes a target: an archive says itself where its files go", layer.Path)
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

// directory packs a directory while it is being taken in.
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
