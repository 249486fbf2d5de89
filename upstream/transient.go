package upstream

import (
	"context"
	"errors"
	"net/http"
)

// IsTransient reports whether an error of this package says that an upstream is
// down, broken or too busy, and nothing about the requested object: an earlier
// answer is then still the best one. It is false when the upstream, or this
// server's policy, has decided. A deadline that ran out before there was an Error
// is transient, too.
func IsTransient(err error) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return errors.Is(err, context.DeadlineExceeded)
	}
	switch e.Kind {
	case RateLimited, Unresolvable, Unreachable, Timeout, Untrusted, Invalid:
		return true
	case Failed:
		return e.Status == 0 || e.Status >= http.StatusInternalServerError
	}
	return false
}

// IsQueued reports whether an error of this package is about a request that waited too
// long behind others of this server and was never sent. It is transient, but nothing
// that other requests should be told about the upstream.
func IsQueued(err error) bool { return errors.Is(err, errQueued) }
