package registry

import (
	"errors"
	"time"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/internal/sizedlru"
	"github.com/waveproxy/waveproxy/upstream"
)

const (
	// After a transient failure the upstream is left alone for its Retry-After, at
	// least minPause, at most maxPause. A final error is repeated for refusedTTL.
	minPause   = 10 * time.Second
	maxPause   = time.Minute
	refusedTTL = 5 * time.Second

	maxFailures = 4096
	// failuresCost bounds them in bytes, because errors may quote an upstream.
	failuresCost = 4 << 20
	failureCost  = 1 << 10 // of one, beside its text
)

// failures keeps the errors that the upstream, or its image, caused, and repeats
// them for a moment: a thousand nodes that retry must not become as many upstream
// requests. It is safe for concurrent use.
type failures struct {
	now    func() time.Time
	recent *sizedlru.Cache[string, failure] // by namedRepository.memoryKey
}

type failure struct {
	err    error
	recipe augment.Recipe // that was to be applied; zero for a digest
	until  time.Time
}

func newFailures(now func() time.Time) *failures {
	return &failures{now: now, recent: sizedlru.New[string, failure](failuresCost, maxFailures, 0)}
}

// noteFailure keeps a transient or final error. Any other is a fault of this server
// and is not kept, because the next attempt may succeed. Nor is the error of a request
// that waited too long in this server's own queue: another client may have its turn at
// once.
func (f *failures) noteFailure(key string, recipe augment.Recipe, err error) {
	switch {
	case upstream.IsQueued(err):
	case upstream.IsTransient(err):
		f.add(key, failure{err, recipe, f.now().Add(pauseAfter(err))})
	case isFinal(err):
		f.add(key, failure{err, recipe, f.now().Add(refusedTTL)})
	}
}

// add keeps the failure. Its recipe is not counted, because the configuration's
// recipes are shared.
func (f *failures) add(key string, kept failure) {
	f.recent.Add(key, kept, failureCost+textCost(key)+2*textCost(kept.err.Error())) // wrapping repeats texts
}

// recentFailure returns the kept error of the key, or nil. An error under another
// recipe does not count: it may be the reason for the reload.
func (f *failures) recentFailure(key string, recipe augment.Recipe) error {
	if kept, ok := f.recent.Get(key); ok && f.now().Before(kept.until) && kept.recipe.Equal(recipe) {
		return kept.err
	}
	return nil
}

// isFinal reports whether the upstream has refused, or has an image that this
// server refuses to serve: an older answer must not hide that. An auth.Error is an
// image whose grant is too large to be recorded.
func isFinal(err error) bool {
	if _, ok := errors.AsType[*upstream.Error](err); ok {
		return !upstream.IsTransient(err)
	}
	_, unfit := errors.AsType[*augment.Error](err)
	_, refused := errors.AsType[*front.Refusal](err)
	_, grantRefused := errors.AsType[*auth.Error](err)
	return unfit || refused || grantRefused
}

// pauseAfter returns how long to leave an upstream alone after a transient error.
func pauseAfter(err error) time.Duration {
	if e, ok := errors.AsType[*upstream.Error](err); ok {
		return min(max(e.RetryAfter, minPause), maxPause)
	}
	return minPause
}
