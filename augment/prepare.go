package augment

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"
	"unsafe"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/budget"
)

const (
	// prepareTimeout bounds reading the layers of one base image, and rewriting the layers
	// of one recipe, whose largest are gigabytes.
	prepareTimeout = 30 * time.Minute
	// preparedCost bounds the results that are remembered, and resultCost and layerCost
	// are what one takes beside its digests, in bytes.
	preparedCost = 4 << 20
	resultCost   = 256
	layerCost    = int64(unsafe.Sizeof(Layer{}))
)

// baseImage is an image of one platform.
type baseImage struct {
	manifest Object
	platform ocispec.Platform
	layers   []ocispec.Descriptor
}

// prepared is what became of layers: the merged one, or one for each, with no digest if
// it stays as it is.
type prepared []Layer

// of returns the layers as they stand above the base.
func (p prepared) of(layers []Layer) []Layer {
	if len(p) < len(layers) {
		return slices.Clone(p)
	}
	layers = slices.Clone(layers)
	for i, l := range p {
		if l.Digest != "" {
			layers[i] = l
		}
	}
	return layers
}

func (p prepared) cost() int64 {
	cost := resultCost + layerCost*int64(cap(p))
	for _, l := range p {
		cost += int64(len(l.Digest) + len(l.DiffID))
	}
	return cost
}

// prepare returns the layers as they must stand above a base image: their entries where
// they land in it, and all merged into one when the image would have more layers than
// engines take. A layer that engines would unpack well as it is stays as it is.
func (w *walk) prepare(ctx context.Context, base baseImage, layers []Layer) ([]Layer, error) {
	if len(layers) > maxChildren {
		return nil, Errorf("%d layers are to be injected; this server takes %d", len(layers), maxChildren)
	}
	if len(layers) == 0 {
		return nil, nil
	}
	n, merged := len(base.layers)+len(layers), false
	if n > w.maxLayers && len(layers) > 1 {
		n, merged = len(base.layers)+1, true
	}
	if n > w.maxLayers {
		return nil, notFor("%s has %d layers, with the injected one %d; container engines take %d", w.Name, len(base.layers), n, w.maxLayers)
	}
	key := w.preparedKey(base, layers, merged)
	if done, ok := w.stillPrepared(ctx, key); ok {
		return done.of(layers), nil
	}
	// A workflow asks for one image in hundreds of tasks at once.
	caller := ctx
	done, err := w.preparing.Do(ctx, w.sharedBy(ctx, string(key[:])), prepareTimeout, func(ctx context.Context) (prepared, error) {
		if done, ok := w.stillPrepared(ctx, key); ok {
			return done, nil // a run ended since we looked
		}
		done, err := w.land(ctx, base, layers, merged)
		switch {
		case err == nil:
			w.prepared.Add(key, done, done.cost())
		case caller.Err() != nil:
			err = abandoned{err}
		}
		return done, err
	})
	if err != nil {
		return nil, err
	}
	return done.of(layers), nil
}

// preparedKey stands for everything that prepare's result depends on. The image's name
// and the access are part of it, so that nothing is told to a client which may not read
// the base's layers, and the whole manifest, because a layer's index may come from a table
// of contents that the manifest names.
func (w *walk) preparedKey(base baseImage, layers []Layer, merged bool) [sha256.Size]byte {
	text := fmt.Appendf(nil, "%q %q %s %q %v", w.Name, w.Access, base.manifest.Digest, base.platform.OS, merged)
	for _, l := range layers {
		text = fmt.Appendf(text, " %s %v", l.Digest, l.OwnModes)
	}
	return sha256.Sum256(text)
}

// stillPrepared returns the result that is remembered, if the archives have it.
func (w *walk) stillPrepared(ctx context.Context, key [sha256.Size]byte) (prepared, bool) {
	done, ok := w.prepared.Get(key)
	for _, l := range done {
		if l.Digest != "" && w.Archives.Verify(ctx, l.Digest) != nil {
			return nil, false
		}
	}
	return done, ok
}

// sharedBy returns the key of a run that the requests of one client with the same
// access share. Other clients have runs of their own, because a run takes its turns
// and is charged in the name of the client that started it.
func (w *walk) sharedBy(ctx context.Context, key string) string {
	return fmt.Sprintf("%q %q %s", budget.Client(ctx), w.Access, key)
}

// repackOnce returns the result of repack, from memory if the inputs are known: the
// layers, and where their entries land.
func (w *walk) repackOnce(ctx context.Context, p *placing, landing [sha256.Size]byte) (Layer, error) {
	inputs := sha256.New() // a thousand digests are too long for a key
	fmt.Fprintf(inputs, "%x", landing)
	for _, l := range p.layers {
		fmt.Fprint(inputs, " ", l.Digest)
	}
	key := [sha256.Size]byte(inputs.Sum(nil))
	if l, ok := w.stillRepacked(ctx, key); ok {
		return l, nil
	}
	caller := ctx
	return w.repacking.Do(ctx, w.sharedBy(ctx, string(key[:])), prepareTimeout, func(ctx context.Context) (Layer, error) {
		if l, ok := w.stillRepacked(ctx, key); ok {
			return l, nil // a run ended since we looked
		}
		if !p.claim() {
			return Layer{}, abandoned{context.Canceled}
		}
		defer p.memory.Release()
		l, err := repack(ctx, p)
		switch {
		case err == nil:
			w.repacked.Add(key, l)
		case caller.Err() != nil:
			err = abandoned{err}
		}
		return l, err
	})
}

// stillRepacked returns the result that is remembered, if the archives have it. One
// that was removed or damaged since is made anew: without it, no image with it can
// be pulled.
func (w *walk) stillRepacked(ctx context.Context, key [sha256.Size]byte) (Layer, bool) {
	l, ok := w.repacked.Get(key)
	return l, ok && w.Archives.Verify(ctx, l.Digest) == nil
}

// abandoned is the error of a run whose first caller has left and may have taken the
// archives with it. Other callers have archives of their own.
type abandoned struct{ error }

func (a abandoned) Unwrap() error { return a.error }

// Private makes the other callers run it themselves.
func (a abandoned) Private() bool { return true }
