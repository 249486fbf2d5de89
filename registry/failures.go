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
	// An upstream that failed is not asked the same again for minPause, or for as
	// long as it asks, up to maxPause. One that refused is not, for refusedTTL.
	minPause   = 10 * time.Second
	maxPause   = time.Minute
	refusedTTL = 5 * time.Second

	maxFailures = 4096
	// failuresCost bounds them in bytes, because errors may quote an upstream.
	failuresCost = 4 << 20
	failureCost  = 1 << 10 // of one, beside its text
)

// failures keeps errors that are an upstream's answer, and gives them again for a
// moment: a thousand nodes that retry must not become as many upstream requests.
// It is safe for concurrent use.
type failures struct {
	now    func() time.Time
	recent *sizedlru.Cache[string, failure] // by namedRequest.key
}

type failure struct {
	err   error
	until time.Time
}

func newFailures(now func() time.Time) *failures {
	return &failures{now: now, recent: sizedlru.New[string, failure](failuresCost, maxFailures, 0)}
}

// noteFailure keeps an error that is the upstream's answer. Errors of this server
// are not kept, because the next attempt may succeed.
func (f *failures) noteFailure(key string, err error) {
	switch {
	case upstream.IsTransient(err):
		f.add(key, failure{err, f.now().Add(pauseAfter(err))})
	case isFinal(err):
		f.add(key, failure{err, f.now().Add(refusedTTL)})
	}
}

func (f *failures) add(key string, kept failure) {
	f.recent.Add(key, kept, failureCost+textCost(key)+2*textCost(kept.err.Error())) // wrapping repeats texts
}

// recentFailure returns the error that is still good for the key, or nil.
func (f *failures) recentFailure(key string) error {
	if kept, ok := f.recent.Get(key); ok && f.now().Before(kept.until) {
		return kept.err
	}
	return nil
}

// isFinal reports whether the upstream has decided, or has an image that cannot
// be served: an older answer must not hide that.
func isFinal(err error) bool {
	if _, ok := errors.AsType[*upstream.Error](err); ok {
		return !upstream.IsTransient(err)
	}
	_, unfit := errors.AsType[*augment.Error](err)
	_, refused := errors.AsType[*front.Refusal](err)
	_, tooLarge := errors.AsType[*auth.Error](err)
	return unfit || refused || tooLarge
}

// pauseAfter returns how long to leave an upstream alone after a transient error.
func pauseAfter(err error) time.Duration {
	if e, ok := errors.AsType[*upstream.Error](err); ok {
		return min(max(e.RetryAfter, minPause), maxPause)
	}
	return minPause
}
