package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/internal/flight"
	"github.com/waveproxy/waveproxy/upstream"
)

const (
	// lookUpTimeout bounds everything that one tag or digest makes us read.
	lookUpTimeout = 2 * time.Minute
	// tagTTL is how long a tag is served without asking the upstream again, unless the
	// recipe says otherwise.
	tagTTL = 30 * time.Second
	// maxStale is how long after its last confirmation a tag is served while the
	// upstream fails.
	maxStale = 7 * 24 * time.Hour
	// maxTags bounds the tags in memory. The records have them, too.
	maxTags = 8192
)

// tagTable has the tags of upstream repositories and the images that recipes made
// of them. It is safe for concurrent use.
type tagTable struct {
	ledger   *ledger
	source   tagSource
	failures *failures
	log      *slog.Logger
	now      func() time.Time

	tags    *lru.Cache[string, *namedTag] // by namedRepository.memoryKey
	lookUps flight.Calls                  // by namedRepository.memoryKey
}

// namedTag is the state of a tag when it was last looked up. It is immutable.
type namedTag struct {
	base    digest.Digest  // of the upstream's manifest or index
	root    digest.Digest  // of the image that was made of it
	recipe  augment.Recipe // that made it
	checked time.Time      // when the upstream last confirmed base
	retry   time.Time      // zero unless the last attempt failed: when to ask again
	partial time.Time      // zero unless the registry lacked a platform: when it was asked
}

func newTagTable(l *ledger, s tagSource, f *failures, log *slog.Logger, now func() time.Time) *tagTable {
	t := &tagTable{ledger: l, source: s, failures: f, log: log, now: now}
	t.tags, _ = lru.New[string, *namedTag](maxTags) // only sizes below 1 fail
	return t
}

// inMemory reports whether the tag is in memory. It may need confirming, but it is
// known to exist.
func (t *tagTable) inMemory(q namedRepository, tag string) bool {
	return t.tags.Contains(q.memoryKey(tag))
}

// imageByTag returns the image that the tag names now. stale tells that the
// upstream could not confirm it. A tag in memory may outlive the record of its
// image, for example if the key that encrypted the record is withdrawn. Such a tag
// is looked up again, which makes the image again.
func (t *tagTable) imageByTag(ctx context.Context, q namedRepository, tag string) (img *image, stale bool, err error) {
	var state *namedTag
	for range 2 {
		if state, err = t.current(ctx, q, tag); err != nil {
			return nil, false, err
		}
		img, err = t.ledger.imageRootedAt(ctx, q, state.root)
		if errors.Is(err, blobstore.ErrNotFound) {
			t.tags.Remove(q.memoryKey(tag)) // the next look-up makes the image again
		}
		if err != nil || img != nil {
			return img, !state.retry.IsZero(), err
		}
		t.tags.Remove(q.memoryKey(tag))
	}
	return nil, false, fmt.Errorf("serve %s:%s under the recipe %s: the record of its image %s is gone", q.ref, tag, q.name, state.root)
}

// current returns the tag from memory, or looks it up once for all concurrent
// callers.
func (t *tagTable) current(ctx context.Context, q namedRepository, tag string) (*namedTag, error) {
	key := q.memoryKey(tag)
	for {
		if state, ok := t.tags.Get(key); ok && t.isCurrent(state, q) {
			return state, nil
		}
		if err := t.failures.recentFailure(key, q.recipe.Recipe); err != nil {
			return nil, err
		}
		found, err := flight.Do(ctx, &t.lookUps, key, lookUpTimeout, func(ctx context.Context) (*namedTag, error) { return t.lookUp(ctx, q, tag) })
		if err != nil || found.recipe.Equal(q.recipe.Recipe) {
			return found, err
		}
		// A caller with another recipe, the previous or a newer one, began the look-up.
	}
}

// isCurrent reports whether the tag can be served without an upstream request:
// the upstream has confirmed it, or has just failed to. A time in the future is
// another server's clock and tells nothing.
func (t *tagTable) isCurrent(state *namedTag, q namedRepository) bool {
	now := t.now()
	age := now.Sub(state.checked)
	return state.recipe.Equal(q.recipe.Recipe) && (age >= 0 && age < cmp.Or(q.recipe.TagTTL, tagTTL) || now.Before(state.retry))
}

// lookUp asks the upstream whether the tag has moved, and augments the new image
// if so. If the upstream fails, it returns the last known tag. If the upstream
// refuses, it forgets the tag.
func (t *tagTable) lookUp(ctx context.Context, q namedRepository, tag string) (*namedTag, error) {
	key := q.memoryKey(tag)
	old := t.lastKnown(ctx, q, tag)
	if old != nil && t.isCurrent(old, q) {
		t.tags.Add(key, old)
		return old, nil
	}
	found, err := t.source.ask(ctx, q, tag, old)
	switch {
	case err == nil:
		t.tags.Add(key, found)
		t.remember(ctx, q, tag, found)
		return found, nil
	case upstream.IsTransient(err) && old != nil && t.now().Sub(old.checked) < maxStale:
		stale := *old
		stale.retry = t.now().Add(pauseAfter(err))
		if !upstream.IsQueued(err) { // else the next caller may have its turn at once
			t.tags.Add(key, &stale)
		}
		t.log.WarnContext(ctx, "upstream unavailable, serving the last known tag",
			"image", q.ref.Name()+":"+tag, "recipe", q.name, "digest", old.root, "confirmed", old.checked, "again", pauseAfter(err), "error", auth.Redact(err.Error()))
		return &stale, nil
	case isFinal(err):
		t.tags.Remove(key)
		t.forget(ctx, q, tag)
	}
	t.failures.noteFailure(key, q.recipe.Recipe, err)
	return nil, err
}
