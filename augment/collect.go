package augment

import "context"

// write makes a document of the augmented image. What is larger than one may be is
// refused, and what the request has no memory for, before it is made.
func (w *walk) write(ctx context.Context, mediaType string, m members) (Object, error) {
	size := m.size()
	if err := w.checkSize(size); err != nil {
		return Object{}, err
	}
	giveBack := func() {}
	if w.Made != nil {
		var err error
		if giveBack, err = w.Made(ctx, int64(size)); err != nil {
			return Object{}, err
		}
	}
	o := NewObject(mediaType, m.encode())
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.written[o.Digest] {
		giveBack()
	}
	w.written[o.Digest] = true
	return o, nil
}

func (w *walk) checkSize(bytes int) error {
	if bytes > maxObject {
		return Errorf("%s: the augmented document is %d bytes; registries and engines take %d", w.Name, bytes, maxObject)
	}
	return nil
}

// add collects a document of the augmented image, within the bounds of one.
func (w *walk) add(o Object) error {
	if err := w.checkSize(len(o.Data)); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.seen[o.Digest] {
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
		if !w.injected[l.Digest] {
			w.injected[l.Digest] = true
			w.image.Layers = append(w.image.Layers, l)
		}
	}
}
