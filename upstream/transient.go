package upstream

import (
	"context"
	"errors"
	"net"
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

// MayPass reports whether the same request may succeed a little later although
// no person acts. It is false for a name that DNS does not have, a certificate that
// is not trusted, a redirect that is refused, and an answer that is as wrong each
// time. IsTransient is wider, because an earlier answer stays good for all of them.
func MayPass(err error) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return errors.Is(err, context.DeadlineExceeded)
	}
	switch e.Kind {
	case RateLimited, Unreachable, Timeout:
		return true
	case Unresolvable: // e.passing is set once the cause was looked at
		dns, ok := errors.AsType[*net.DNSError](e.Err)
		return e.passing || ok && !dns.IsNotFound
	case Failed:
		return e.passing || mayPass(e.Status)
	}
	return e.passing
}

// mayPass tells the statuses that end by themselves from the statuses that a person
// has to end. A storage's 401 and 403 pass, because the registry signs each redirect
// anew: no registry's own 401 or 403 is Failed.
func mayPass(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestTimeout, http.StatusTooEarly:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported, http.StatusLoopDetected, http.StatusNetworkAuthenticationRequired:
		return false
	}
	return status >= http.StatusInternalServerError
}

// IsQueued reports whether an error of this package is about a request that waited too
// long behind others of this server and was never sent. It is transient, but nothing
// that other requests should be told about the upstream.
func IsQueued(err error) bool { return errors.Is(err, errQueued) }
