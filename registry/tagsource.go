package registry

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/front"
)

// tagSource asks upstreams about tags and makes images of the manifests that the
// tags name.
type tagSource struct {
	resolver    Resolver
	ledger      *ledger
	passThrough *passThrough
	now         func() time.Time
	headTimeout time.Duration
}

// headTimeout is how long clients wait to hear whether a known tag has moved. It
// is short, because the last known image can be served instead for maxStale.
const headTimeout = 5 * time.Second

// partialTTL is how long an image without a platform that its registry lacked is served
// before the registry is asked for that platform again. Until then a tag that has not
// moved costs a HEAD, which registries do not count.
const partialTTL = 10 * time.Minute

// partialOf returns the time if the image lacks a platform of its base, else the zero time.
func partialOf(grant auth.Grant, now time.Time) time.Time {
	if len(grant.Absent) == 0 {
		return time.Time{}
	}
	return now
}

// ask returns the state of the tag now. It asks the upstream to confirm the old
// state, and makes and advertises an image if there is none or the tag has moved. Errors
// are the Resolver's, or a refusal.
func (s tagSource) ask(ctx context.Context, q namedRepository, tag string, old *namedTag) (*namedTag, error) {
	if old != nil {
		moved, err := s.hasMoved(ctx, q, tag, old.base)
		if err != nil {
			return nil, err
		}
		if !moved && (old.partial.IsZero() || s.now().Sub(old.partial) < partialTTL) {
			confirmed := *old
			confirmed.checked, confirmed.retry = s.now(), time.Time{}
			return &confirmed, nil
		}
	}
	ref, err := reference.WithTag(q.ref, tag)
	if err != nil {
		return nil, front.Refuse(http.StatusNotFound, front.ManifestInvalid, "%.200q is not a tag", tag)
	}
	grant, err := s.resolver.Resolve(ctx, assemble.ImageRequest{
		Identity: q.recipe.Identity, Ref: ref, Recipe: q.recipe.Recipe, Named: q.name, Staged: blobstore.NewMem(),
	})
	found := &namedTag{base: grant.Base, root: grant.Root.Digest, recipe: q.recipe.Recipe, checked: s.now(), partial: partialOf(grant, s.now())}
	if unfit, ok := errors.AsType[*augment.Unfit](err); ok && (!unfit.Image || q.recipe.Plain) {
		// By digest, so that these are the bytes that were judged.
		_, err = s.passThrough.imageByDigest(ctx, q, unfit.Base)
		found.base, found.root = unfit.Base, unfit.Base
	} else if err == nil {
		_, err = s.ledger.advertise(ctx, q, grant)
	}
	if err != nil {
		return nil, err
	}
	return found, nil
}

// hasMoved asks with HEAD, which registries that count pulls do not count, and with GET
// where HEAD is refused. It returns true if the registry does not say what the tag
// names.
func (s tagSource) hasMoved(ctx context.Context, q namedRepository, tag string, base digest.Digest) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, s.headTimeout)
	defer cancel()
	current, err := s.resolver.Digest(ctx, q.target(), tag)
	return current != base, err
}
