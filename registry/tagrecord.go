package registry

import (
	"context"

	"github.com/waveproxy/waveproxy/auth"
)

// The record of a tag is a grant with Image, Tag, Base, Root.Digest, Recipe and
// Identity. Without Root.Digest it says that the upstream refuses the tag. It was
// confirmed when it was stored. All servers that share the store read it, so they
// share one look at the upstream, and have the same tag to fall back on.

// known returns the last known state of the tag with the recipe in force: from
// memory or, if that is later, from the record that another server wrote. It is
// nil if there is none.
func (t *tagTable) known(ctx context.Context, q namedRequest, tag string) *namedTag {
	mine, ok := t.tags.Get(q.key(tag))
	if !ok || !mine.recipe.Equal(q.recipe.Recipe) {
		mine = nil
	}
	record, stored, err := t.ledger.grants.Get(ctx, q.tagRecord(tag))
	if err != nil || mine != nil && !stored.After(mine.checked) {
		return mine // without the record, the upstream tells
	}
	if record.Root.Digest == "" {
		return nil
	}
	if record.Tag != tag || !record.Recipe.Equal(q.recipe.Recipe) {
		return mine
	}
	img, err := t.ledger.imageRootedAt(ctx, q, record.Root.Digest)
	if err == nil && img != nil && (mine == nil || mine.root != record.Root.Digest) {
		// Records that it shares with older images may have gone with their key.
		err = t.ledger.writePointers(ctx, q, record.Root.Digest, img.digests())
	}
	if err != nil || img == nil {
		return mine
	}
	return &namedTag{base: record.Base, root: record.Root.Digest, recipe: q.recipe.Recipe, checked: stored}
}

// remember records the tag for other servers and for a restart; the zero namedTag
// records that it is gone. Losing the record costs one upstream request.
func (t *tagTable) remember(ctx context.Context, q namedRequest, tag string, state *namedTag) {
	record := auth.Grant{Image: q.ref.Name(), Tag: tag, Base: state.base, Recipe: state.recipe, Identity: q.recipe.Identity}
	record.Root.Digest = state.root
	if err := t.ledger.grants.Put(ctx, q.tagRecord(tag), record); err != nil {
		t.log.WarnContext(ctx, "cannot record tag, other servers will ask the upstream", "image", q.ref.Name()+":"+tag, "recipe", q.name, "error", err)
	}
}

// forget records that the tag is gone, if a record says otherwise. It does not
// matter with which recipe that record was made.
func (t *tagTable) forget(ctx context.Context, q namedRequest, tag string) {
	if record, _, err := t.ledger.grants.Get(ctx, q.tagRecord(tag)); err == nil && record.Root.Digest != "" {
		t.remember(ctx, q, tag, &namedTag{})
	}
}
