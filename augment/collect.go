package augment

import (
	"context"
	"slices"
)

// add collects a document of the augmented image, within the bounds of one.
func (w *walk) add(ctx context.Context, o Object) error {
	if len(o.Data) > maxObject {
		return Errorf("%s: the augmented document is %d bytes; registries and engines take %d", w.Name, len(o.Data), maxObject)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.seen[o.Digest] {
		if w.Made != nil && !w.Recipe.IsZero() {
			if err := w.Made(ctx, int64(cap(o.Data))); err != nil {
				return err
			}
		}
		w.seen[o.Digest] = true
		w.image.Objects = append(w.image.Objects, o)
		w.size += len(o.Data)
	}
	if w.size > maxImage {
		return Errorf("%s: the image's documents are more than %d bytes", w.Name, maxImage)
	}
	return nil
}

// addLayers collects the injected layers of one manifest.
func (w *walk) addLayers(layers []Layer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range layers {
		if !slices.ContainsFunc(w.image.Layers, func(have Layer) bool { return have.Digest == l.Digest }) {
			w.image.Layers = append(w.image.Layers, l)
		}
	}
}
