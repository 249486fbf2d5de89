package augment

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/budget"
)

// prepareTimeout bounds reading one base layer, and rewriting the layers of one
// recipe, whose largest are gigabytes.
const prepareTimeout = 30 * time.Minute

// prepare returns the layers as they must stand above a base image: entries
// moved off its usrmerge links, and all merged into one when the image would
// have more layers than engines take.
func (w *walk) prepare(ctx context.Context, base []ocispec.Descriptor, layers []Layer) ([]Layer, error) {
	if len(layers) > maxChildren {
		return nil, Errorf("%d layers are to be injected; this server takes %d", len(layers), maxChildren)
	}
	links, err := w.baseLinks(ctx, base, layers)
	if err != nil {
		return nil, err
	}
	if len(layers) > 1 && len(base)+len(layers) > w.maxLayers {
		merged, err := w.repackOnce(ctx, layers, links)
		if err != nil {
			return nil, err
		}
		layers = []Layer{merged}
	} else {
		layers = slices.Clone(layers)
		for i, l := range layers {
			if !slices.ContainsFunc(l.Roots, func(root string) bool { return links[root] != "" }) {
				continue
			}
			if layers[i], err = w.repackOnce(ctx, layers[i:i+1], links); err != nil {
				return nil, err
			}
		}
	}
	if n := len(base) + len(layers); len(layers) > 0 && n > w.maxLayers {
		return nil, Errorf("%s has %d layers, with the injected one %d; container engines take %d", w.Name, len(base), n, w.maxLayers)
	}
	return layers, nil
}

// baseLinks returns where the base's usrmerge links lead. It reads the bottom
// layer only if an injected layer has entries under a usrmerge root. The bytes
// are not verified against the layer's digest, so the result is remembered for
// this image name alone: another registry could have sent anything for the
// digest.
func (w *walk) baseLinks(ctx context.Context, base []ocispec.Descriptor, layers []Layer) (map[string]string, error) {
	var roots []string
	for _, l := range layers {
		roots = append(roots, l.Roots...)
	}
	if len(roots) == 0 || len(base) == 0 {
		return nil, nil
	}
	slices.Sort(roots)
	roots = slices.Compact(roots)
	key := fmt.Sprintf("%q %q %q", w.Name, base[0].Digest, roots)
	if links, ok := w.links.Get(key); ok {
		return links, nil
	}
	// A workflow asks for one image in hundreds of tasks at once.
	return w.reading.Do(ctx, w.sharedBy(ctx, key), prepareTimeout, func(ctx context.Context) (map[string]string, error) {
		return w.readBase(ctx, base[0], key, roots)
	})
}

// sharedBy returns the key of a run that the requests of one client with the same
// access share. Other clients have runs of their own, because a run takes its turns
// and is charged in the name of the client that started it.
func (w *walk) sharedBy(ctx context.Context, key string) string {
	return fmt.Sprintf("%q %q %s", budget.Client(ctx), w.Access, key)
}

// readBase reads the links of a bottom layer and remembers them by the key.
func (w *walk) readBase(ctx context.Context, layer ocispec.Descriptor, key string, roots []string) (map[string]string, error) {
	if links, ok := w.links.Get(key); ok {
		return links, nil // a run ended since we looked
	}
	r, err := w.src.Layer(ctx, layer)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	links, err := readLinks(ctx, r, roots)
	if err != nil {
		return nil, err
	}
	cost := 512 + len(key)
	for root, target := range links {
		cost += 64 + len(root) + len(target)
	}
	w.links.Add(key, links, int64(cost))
	return links, nil
}

// repackOnce returns the result of repack, from memory if the inputs are known.
func (w *walk) repackOnce(ctx context.Context, layers []Layer, links map[string]string) (Layer, error) {
	key := repackKey(layers, links)
	if l, ok := w.stillRepacked(ctx, key); ok {
		return l, nil
	}
	caller := ctx
	return w.repacking.Do(ctx, w.sharedBy(ctx, string(key[:])), prepareTimeout, func(ctx context.Context) (Layer, error) {
		if l, ok := w.stillRepacked(ctx, key); ok {
			return l, nil // a run ended since we looked
		}
		l, err := repack(ctx, w.Archives, layers, links)
		switch {
		case err == nil:
			w.repacked.Add(key, l)
		case caller.Err() != nil:
			err = abandoned{err}
		}
		return l, err
	})
}

// repackKey returns a key that no other inputs of repack have. The targets of links
// are any text that an image's author chose, so each is quoted: otherwise one link
// could look like several, and an image decide how layers are rewritten for others.
func repackKey(layers []Layer, links map[string]string) [sha256.Size]byte {
	inputs := sha256.New() // a thousand digests are too long for a key
	fmt.Fprintf(inputs, "%d links\n", len(links))
	for _, root := range slices.Sorted(maps.Keys(links)) {
		fmt.Fprintf(inputs, "%q %q\n", root, links[root])
	}
	for _, l := range layers {
		fmt.Fprintf(inputs, "%q\n", l.Digest)
	}
	return [sha256.Size]byte(inputs.Sum(nil))
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
