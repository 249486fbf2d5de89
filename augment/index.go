package augment

import (
	"context"
	"errors"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/waveproxy/waveproxy/internal/unpack"
)

// visitIndex returns the index of the images that could be augmented. declared is the
// platform in the entry of the index around it.
func (w *walk) visitIndex(ctx context.Context, o Object, m members, declared *ocispec.Platform, depth int) (result, error) {
	if depth >= maxDepth {
		return result{}, Errorf("%s: indexes are nested more than %d deep", w.Name, maxDepth)
	}
	var entries []part
	var chosen, plain []bool
	err := unpack.InTurn(ctx, len(o.Data), func() (err error) {
		if entries, err = w.entriesOf(o, m); err == nil {
			chosen, plain = w.choose(entries)
		}
		return err
	})
	if err != nil {
		return result{}, err
	}
	results := make([]result, len(entries))
	g, visiting := errgroup.WithContext(ctx) // visiting ends with the group
	g.SetLimit(8)
	if depth > 0 {
		g.SetLimit(1) // 8 documents at a time in all, not to the power of the depth
	}
	for i := range entries {
		if results[i] = (result{plain: plain[i], platform: entries[i].Platform}); !chosen[i] {
			continue
		}
		g.Go(func() error {
			if err := entries[i].validate(); err != nil {
				return Errorf("index %s: entry %d: %v", o.Digest, i, err)
			}
			var err error
			results[i], err = w.visitEntry(visiting, entries[i], depth)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return result{}, err
	}
	if !slices.ContainsFunc(results, func(r result) bool { return r.object != nil || r.flat != nil }) {
		return result{plain: slices.ContainsFunc(results, func(r result) bool { return r.plain })}, nil
	}
	if w.Recipe.IsZero() {
		return result{object: &o}, w.add(o)
	}
	r := result{platform: onePlatform(results, declared)}
	size := len(o.Data)
	for _, r := range results {
		for _, entry := range r.flat {
			size += len(entry)
		}
	}
	err = unpack.InTurn(ctx, size, func() error {
		whole, kept, err := w.rewriteIndex(o, m, o.MediaType, results, origin{w.Name, o.Digest})
		if err == nil && depth > 0 && r.platform != nil {
			r.flat, err = w.withPlatform(kept, *r.platform)
			return err
		}
		if err == nil {
			var made Object
			made, err = w.write(ctx, o.MediaType, whole)
			r.object = &made
		}
		return err
	})
	if err != nil || r.object == nil {
		return r, err
	}
	return r, w.add(*r.object)
}

// onePlatform returns the platform of all images of an index, or nil. If the entry around
// it declares another one, engines do not choose the index for it, and must not.
func onePlatform(results []result, declared *ocispec.Platform) *ocispec.Platform {
	var one *ocispec.Platform
	if declares(declared) {
		one = declared
	}
	for _, r := range results {
		if r.object == nil && r.flat == nil && !r.plain {
			continue
		}
		if r.platform == nil || one != nil && !samePlatform(*r.platform, *one) {
			return nil
		}
		one = r.platform
	}
	return one
}

// visitEntry reads what an entry names, and visits it. An entry whose manifest or config
// the registry does not have is left out: engines for other platforms pull the image
// without it. Any other failure is an error, because it says nothing of the image.
func (w *walk) visitEntry(ctx context.Context, entry part, depth int) (result, error) {
	child, err := w.src.Manifest(ctx, entry.Digest.String())
	var r result
	if err == nil {
		child.MediaType = entry.MediaType
		r, err = w.visit(ctx, child, entry.Platform, depth+1)
	}
	if e, ok := errors.AsType[*Error](err); ok && e.unfit == unfitImage && w.Recipe.Plain {
		return result{plain: true, platform: entry.Platform}, nil
	}
	if err == nil || !errors.Is(err, ErrAbsent) {
		return r, err
	}
	w.retractPlatform(entry.Platform)
	w.mu.Lock()
	defer w.mu.Unlock()
	absent := entry.small()
	absent.Platform = entry.Platform
	w.image.Absent = append(w.image.Absent, absent)
	if w.absent == nil {
		w.absent = err
	}
	return result{}, nil
}

// entriesOf returns the entries of an index, and counts them.
func (w *walk) entriesOf(o Object, m members) ([]part, error) {
	n, err := m.count("manifests")
	if err != nil {
		return nil, Errorf("index %s: %v", o.Digest, err)
	}
	w.mu.Lock()
	w.entries += n
	n = w.entries
	w.mu.Unlock()
	if n > maxChildren {
		return nil, Errorf("%s: its indexes have %d entries; this server takes %d", w.Name, n, maxChildren)
	}
	parts, err := o.parts()
	if err == nil && w.Recipe.IsZero() { // all entries stay, and are told to clients
		err = parts.validate()
	}
	if err != nil {
		return nil, Errorf("index %s: %v", o.Digest, err)
	}
	entries := parts.Manifests
	for i := range entries {
		if !declares(entries[i].Platform) {
			entries[i].Platform = nil
		}
	}
	if reason := attached(w.Reference, entries); reason != "" && o.Digest == w.image.Base {
		return nil, notImage("%s is not a container image: %s", w.Name, reason)
	}
	return entries, nil
}
