package registry

import (
	"context"
	"errors"
	"io/fs"

	"github.com/waveproxy/waveproxy/auth"
)

// The record of a tag is a grant with only Image, Tag, Base, Root.Digest, Recipe
// and Identity set. A record without Root.Digest means that the upstream refused
// the tag. The time of storing is the time of confirmation. All servers that share
// the store read the record, so they share one look-up, and have the same tag to
// fall back on.

// lastKnown returns the last known state of the tag with the recipe in force: from
// memory or, if that is later, from the record, which another server may have
// written. It is nil if there is none.
func (t *tagTable) lastKnown(ctx context.Context, q namedRepository, tag string) *namedTag {
	inMemory, ok := t.tags.Get(q.memoryKey(tag))
	if !ok || !inMemory.recipe.Equal(q.recipe.Recipe) {
		inMemory = nil
	}
	record, stored, err := t.ledger.grants.Get(ctx, q.tagRecord(tag))
	if err != nil || inMemory != nil && !stored.After(inMemory.checked) {
		return inMemory // there is no usable or no later record
	}
	if record.Root.Digest == "" {
		return nil
	}
	if record.Tag != tag || !record.Recipe.Equal(q.recipe.Recipe) {
		return inMemory
	}
	img, err := t.ledger.imageRootedAt(ctx, q, record.Root.Digest)
	if err == nil && img != nil && (inMemory == nil || inMemory.root != record.Root.Digest) {
		_, err = t.ledger.record(ctx, q, img) // older versions wrote no record with all digests
	}
	if err != nil || img == nil {
		return inMemory
	}
	return &namedTag{base: record.Base, root: record.Root.Digest, recipe: q.recipe.Recipe, checked: stored, partial: partialOf(*img.grant, stored)}
}

// remember records the tag for other servers and for a restart. Losing the record
// costs one upstream request.
func (t *tagTable) remember(ctx context.Context, q namedRepository, tag string, state *namedTag) {
	if err := t.record(ctx, q, tag, state); err != nil {
		t.log.WarnContext(ctx, "cannot record tag, other servers will ask the upstream", "image", q.ref.Name()+":"+tag, "recipe", q.name, "error", err)
	}
}

// forget records that the upstream refused the tag, if a record says otherwise. It
// does not matter with which recipe that record was made. Losing the refusal lets
// other servers, and this one after a restart, serve the tag from the older record
// if the upstream fails then.
func (t *tagTable) forget(ctx context.Context, q namedRepository, tag string) {
	old, _, err := t.ledger.grants.Get(ctx, q.tagRecord(tag))
	if errors.Is(err, fs.ErrNotExist) || err == nil && old.Root.Digest == "" {
		return
	}
	if err == nil {
		err = t.record(ctx, q, tag, &namedTag{})
	}
	if err != nil {
		t.log.WarnContext(ctx, "cannot record that the upstream refused the tag, other servers may serve its last known image while the upstream fails",
			"image", q.ref.Name()+":"+tag, "recipe", q.name, "error", err)
	}
}

// record stores the state of the tag. The zero namedTag means that the upstream
// refused it.
func (t *tagTable) record(ctx context.Context, q namedRepository, tag string, state *namedTag) error {
	record := auth.Grant{Image: q.ref.Name(), Tag: tag, Base: state.base, Recipe: state.recipe, Identity: q.recipe.Identity}
	record.Root.Digest = state.root
	return t.ledger.grants.Put(ctx, q.tagRecord(tag), record)
}
