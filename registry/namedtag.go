package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/internal/flight"
	"github.com/waveproxy/waveproxy/upstream"
)

const (
	// lookUpTimeout bounds everything that one tag or digest makes us read.
	lookUpTimeout = 2 * time.Minute
	// namedTTL is how long a tag is believed without asking the upstream.
	namedTTL = 30 * time.Second
	// headTimeout is how long clients wait to hear whether a tag has moved, when
	// there is an answer to fall back on.
	headTimeout = 5 * time.Second
	// maxStale is how long a tag is served that the upstream cannot confirm.
	maxStale = 7 * 24 * time.Hour

	// An upstream that failed is not asked the same again for minPause, or as long
	// as it wants but not for longer than maxPause; one that refused, for refusedTTL.
	minPause   = 10 * time.Second
	maxPause   = time.Minute
	refusedTTL = 5 * time.Second
)

// namedTag is what a tag was when it was last looked up. It is not changed.
type namedTag struct {
	base    digest.Digest  // what it was at the upstream
	root    digest.Digest  // what that became
	recipe  augment.Recipe // by which
	checked time.Time      // by the upstream
	retry   time.Time      // when to ask an upstream again that failed since; zero if it did not
}

// failure is an answer that is given again for a moment: a thousand nodes that
// try again must not become as many requests.
type failure struct {
	err   error
	until time.Time
}

// tag returns the image that the tag names now. stale tells that the upstream
// could not confirm it.
func (n *named) tag(ctx context.Context, q namedRequest, tag string) (img *image, stale bool, err error) {
	t, err := n.current(ctx, q, tag)
	if err != nil {
		return nil, false, err
	}
	img, err = n.rooted(ctx, q, t.root)
	if err == nil && img == nil {
		n.tags.Remove(q.key(tag))
		err = fmt.Errorf("the record of %s, which %s:%s is under the recipe %s, is gone", t.root, q.ref, tag, q.name)
	}
	return img, !t.retry.IsZero(), err
}

// current answers from memory, or looks the tag up for everybody who asks.
func (n *named) current(ctx context.Context, q namedRequest, tag string) (*namedTag, error) {
	key := q.key(tag)
	for {
		if t, ok := n.tags.Get(key); ok && n.isGood(t, q) {
			return t, nil
		}
		if err := n.failed(key); err != nil {
			return nil, err
		}
		t, err := flight.Do(ctx, &n.flights, key, lookUpTimeout, func(ctx context.Context) (*namedTag, error) { return n.lookUp(ctx, q, tag) })
		if err != nil || t.recipe.Equal(q.recipe.Recipe) {
			return t, err
		}
		// Somebody else had begun with the recipe that was in force before.
	}
}

// isGood reports whether the tag can be served without a question: the upstream
// has confirmed it, or could not a moment ago. A time that is to come is another
// server's clock, which says nothing.
func (n *named) isGood(t *namedTag, q namedRequest) bool {
	now := n.now()
	age := now.Sub(t.checked)
	return t.recipe.Equal(q.recipe.Recipe) && (age >= 0 && age < namedTTL || now.Before(t.retry))
}

// lookUp asks the upstream whether the tag has moved, and augments what it names
// if so. When the upstream fails, the tag is what it was; when it refuses, it is
// nothing any more.
func (n *named) lookUp(ctx context.Context, q namedRequest, tag string) (*namedTag, error) {
	key := q.key(tag)
	old := n.known(ctx, q, tag)
	if old != nil && n.isGood(old, q) {
		n.tags.Add(key, old)
		return old, nil
	}
	t, err := n.ask(ctx, q, tag, old)
	switch {
	case err == nil:
		n.tags.Add(key, t)
		n.remember(ctx, q, tag, t)
		return t, nil
	case mayPass(err) && old != nil && n.now().Sub(old.checked) < maxStale:
		stale := *old
		stale.retry = n.now().Add(pause(err))
		n.tags.Add(key, &stale)
		n.log.WarnContext(ctx, "the upstream cannot be asked about a tag, which stays what it was",
			"image", q.ref.Name()+":"+tag, "recipe", q.name, "digest", old.root, "confirmed", old.checked, "again", pause(err), "error", auth.Redact(err.Error()))
		return &stale, nil
	case isDecision(err):
		n.tags.Remove(key)
		n.forget(ctx, q, tag)
	}
	n.fail(key, err)
	return nil, err
}

// known is what this server knows of the tag or, if that is later, another one
// has learned; nil for nothing that is any use.
func (n *named) known(ctx context.Context, q namedRequest, tag string) *namedTag {
	t, ok := n.tags.Get(q.key(tag))
	if !ok || !t.recipe.Equal(q.recipe.Recipe) {
		t = nil
	}
	grant, stored, err := n.grants.Get(ctx, q.tagRecord(tag))
	if err != nil || t != nil && !stored.After(t.checked) {
		return t // without the record, the upstream tells
	}
	if grant.Root.Digest == "" {
		return nil
	}
	if grant.Tag != tag || !grant.Recipe.Equal(q.recipe.Recipe) {
		return t
	}
	img, err := n.rooted(ctx, q, grant.Root.Digest)
	if err == nil && img != nil && (t == nil || t.root != grant.Root.Digest) {
		// Records that it shares with older images may have gone with their key.
		err = n.point(ctx, q, grant.Root.Digest, img.digests())
	}
	if err != nil || img == nil {
		return t
	}
	return &namedTag{base: grant.Base, root: grant.Root.Digest, recipe: q.recipe.Recipe, checked: stored}
}

// remember lets other servers, and this one after a restart, know the tag: the
// zero namedTag that there is none. They can do without.
func (n *named) remember(ctx context.Context, q namedRequest, tag string, t *namedTag) {
	grant := auth.Grant{Image: q.ref.Name(), Tag: tag, Base: t.base, Recipe: t.recipe, Identity: q.recipe.Identity}
	grant.Root.Digest = t.root
	if err := n.grants.Put(ctx, q.tagRecord(tag), grant); err != nil {
		n.log.WarnContext(ctx, "what a tag is cannot be remembered", "image", q.ref.Name()+":"+tag, "recipe", q.name, "error", err)
	}
}

// forget lets other servers know that the tag is nothing any more, if one of them
// may take it for something: with the recipe that it has, too.
func (n *named) forget(ctx context.Context, q namedRequest, tag string) {
	if grant, _, err := n.grants.Get(ctx, q.tagRecord(tag)); err == nil && grant.Root.Digest != "" {
		n.remember(ctx, q, tag, &namedTag{})
	}
}

// ask has the upstream confirm what is known, and computes the image if there is
// nothing or the tag has moved.
func (n *named) ask(ctx context.Context, q namedRequest, tag string, old *namedTag) (*namedTag, error) {
	if old != nil {
		moved, err := n.moved(ctx, q, tag, old.base)
		if err != nil {
			return nil, err
		}
		if !moved {
			confirmed := *old
			confirmed.checked, confirmed.retry = n.now(), time.Time{}
			return &confirmed, nil
		}
	}
	ref, err := reference.WithTag(q.ref, tag)
	if err != nil {
		return nil, front.Refuse(http.StatusNotFound, front.ManifestInvalid, "%.200q is not a tag", tag)
	}
	grant, err := n.resolver.Resolve(ctx, assemble.ImageRequest{
		Identity: q.recipe.Identity, Ref: ref, Recipe: q.recipe.Recipe, Named: q.name, Staged: blobstore.NewMem(),
	})
	if err != nil {
		return nil, err
	}
	if _, err := n.advertise(ctx, q, grant); err != nil {
		return nil, err
	}
	return &namedTag{base: grant.Base, root: grant.Root.Digest, recipe: q.recipe.Recipe, checked: n.now()}, nil
}

// moved asks with HEAD, which registries that count pulls do not count. A
// registry that does not know HEAD has to be asked with GET.
func (n *named) moved(ctx context.Context, q namedRequest, tag string, base digest.Digest) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, headTimeout)
	defer cancel()
	now, err := n.resolver.Digest(ctx, q.target(), tag)
	if e, ok := errors.AsType[*upstream.Error](err); ok && e.Kind == upstream.Failed && !mayPass(err) {
		return true, nil
	}
	return now != base, err
}

// mayPass tells an upstream that is down, or too busy, from one that has decided.
func mayPass(err error) bool {
	e, ok := errors.AsType[*upstream.Error](err)
	if !ok {
		return errors.Is(err, context.DeadlineExceeded)
	}
	switch e.Kind {
	case upstream.RateLimited, upstream.Unresolvable, upstream.Unreachable, upstream.Timeout, upstream.Untrusted, upstream.Invalid:
		return true
	case upstream.Failed:
		return e.Status == 0 || e.Status >= http.StatusInternalServerError
	}
	return false
}

// isDecision reports whether the upstream, or what it has, rules the image out.
func isDecision(err error) bool {
	if _, ok := errors.AsType[*upstream.Error](err); ok {
		return !mayPass(err)
	}
	_, unfit := errors.AsType[*augment.Error](err)
	_, refused := errors.AsType[*front.Refusal](err)
	_, tooLarge := errors.AsType[*auth.Error](err)
	return unfit || refused || tooLarge
}

func pause(err error) time.Duration {
	if e, ok := errors.AsType[*upstream.Error](err); ok {
		return min(max(e.RetryAfter, minPause), maxPause)
	}
	return minPause
}

// fail keeps an answer of the upstream for a moment; failures of ours are not
// answers.
func (n *named) fail(key string, err error) {
	switch {
	case mayPass(err):
		n.failures.Add(key, failure{err, n.now().Add(pause(err))})
	case isDecision(err):
		n.failures.Add(key, failure{err, n.now().Add(refusedTTL)})
	}
}

func (n *named) failed(key string) error {
	if f, ok := n.failures.Get(key); ok && n.now().Before(f.until) {
		return f.err
	}
	return nil
}
