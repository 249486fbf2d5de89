package augment

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/waveproxy/waveproxy/layerindex"
	"github.com/waveproxy/waveproxy/rootfs"
)

// indexesAtOnce is how many layers of an image are asked for at a time.
const indexesAtOnce = 4

// land places the layers over the base. Nothing of the base is read if it makes no
// difference.
func (w *walk) land(ctx context.Context, base baseImage, layers []Layer, merged bool) (prepared, error) {
	if base.platform.OS == "windows" { // whose layers have names of their own
		return w.landAnywhere(ctx, layers, merged)
	}
	indexes := make([]*layerindex.Index, len(layers))
	below := ""
	for i, l := range layers {
		x, err := w.addedIndex(ctx, l)
		if err != nil {
			return nil, err
		}
		indexes[i], below = x, cmp.Or(below, belowRoot(x))
	}
	if below == "" {
		return w.landAnywhere(ctx, layers, merged)
	}
	stack, err := w.stack(ctx, base, below)
	if err != nil {
		return nil, err
	}
	if merged {
		l, _, err := w.landOne(ctx, stack, layers, indexes, true)
		return prepared{l}, err
	}
	done := make(prepared, len(layers))
	for i := range layers {
		l, changed, err := w.landOne(ctx, stack, layers[i:i+1], indexes[i:i+1], false)
		if err != nil {
			return nil, err
		}
		if changed {
			done[i] = l
		}
		if i == len(layers)-1 {
			break
		}
		x := indexes[i]
		if changed {
			if x, err = w.addedIndex(ctx, l); err != nil {
				return nil, err
			}
		}
		stack = stack.With(x)
	}
	return done, nil
}

// landAnywhere returns the layers with all names as they are.
func (w *walk) landAnywhere(ctx context.Context, layers []Layer, merged bool) (prepared, error) {
	if !merged {
		return make(prepared, len(layers)), nil
	}
	p := placeOn(ctx, w.Archives, nil, layers, nil)
	defer p.end()
	l, err := w.repackOnce(ctx, p, [sha256.Size]byte{})
	return prepared{l}, err
}

// landOne returns the one layer that layers become over the stack, and whether it is
// another one.
func (w *walk) landOne(ctx context.Context, stack *rootfs.Stack, layers []Layer, indexes []*layerindex.Index, always bool) (l Layer, changed bool, err error) {
	p := placeOn(ctx, w.Archives, stack, layers, indexes)
	defer p.end()
	changed, landing, err := p.learn(ctx)
	if err != nil || !changed && !always {
		return Layer{}, false, err
	}
	l, err = w.repackOnce(ctx, p, landing)
	return l, true, err
}

// belowRoot returns an entry of a layer that may land elsewhere than its name says, or
// change something that the base has; "" if there is none. What lies at the root
// itself, and is no directory, takes the place of what the base has there.
func belowRoot(x *layerindex.Index) string {
	for e := range x.All() {
		// An opaque marker is in the directory that it is called by.
		if e.Kind == layerindex.Dir || e.Kind == layerindex.Opaque || strings.Contains(e.Name, "/") {
			return e.Name
		}
	}
	return ""
}

// annotated returns the layers with their annotations, which say where a layer has a
// table of contents.
func (b baseImage) annotated(ctx context.Context) ([]ocispec.Descriptor, error) {
	var doc struct {
		Layers []struct {
			Annotations map[string]string `json:"annotations"`
		} `json:"layers"`
	}
	if err := b.manifest.Decode(ctx, &doc); err != nil {
		return nil, err
	}
	layers := slices.Clone(b.layers)
	for i := range min(len(layers), len(doc.Layers)) {
		layers[i].Annotations = doc.Layers[i].Annotations
	}
	return layers, nil
}

// stack returns the layers of the base, as they stand together. needed is an entry because
// of which they are read.
func (w *walk) stack(ctx context.Context, base baseImage, needed string) (*rootfs.Stack, error) {
	described, err := base.annotated(ctx)
	if err != nil {
		return nil, err
	}
	indexes := make([]*layerindex.Index, len(described))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(indexesAtOnce)
	for i, d := range described {
		g.Go(func() error {
			var err error
			if indexes[i], err = w.src.Index(ctx, d); err != nil {
				return fmt.Errorf("find where the added %.200q lands in %s: layer %s: %w", needed, w.Name, d.Digest, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return rootfs.NewStack(indexes...), nil
}

// addedIndex returns the index of a layer in the archives.
func (w *walk) addedIndex(ctx context.Context, l Layer) (*layerindex.Index, error) {
	if w.AddedIndex != nil {
		return w.AddedIndex(ctx, l)
	}
	f, err := w.Archives.Open(ctx, l.Digest)
	if err != nil {
		return nil, fmt.Errorf("open layer %s: %w", l.Digest, err)
	}
	defer f.Close()
	x, err := layerindex.Read(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("read layer %s: %w", l.Digest, err)
	}
	return x, nil
}
