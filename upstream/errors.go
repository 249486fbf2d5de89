package upstream

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
)

// Kind is what went wrong, as far as it matters to the client.
type Kind int

const (
	NotFound     Kind = iota + 1 // a registry said 404
	Unauthorized                 // refused, and no credential was used
	Rejected                     // refused, though a credential was used
	RateLimited                  // 429
	Forbidden                    // we do not connect there
	Unresolvable                 // the host has no address that DNS knows of
	Unreachable                  // no connection, or it broke
	Timeout                      // no answer in time
	Untrusted                    // no TLS, or a certificate that no trusted CA signed
	Failed                       // any other status, or a login that went wrong
	Invalid                      // an answer that cannot be used: too big, cut off, not what its digest says
)

// Error says why a registry or a URL could not be read. Its text is one line for
// the client's user: operation and name, then the event, then the remedy. It
// holds no secret, no query string and nothing of an answer's body.
type Error struct {
	Kind       Kind
	Op         string        // "pull manifest", "pull blob", "pull from", "fetch layer", "log in to"
	Registry   string        // host as in image names; empty for URLs
	Host       string        // the host of the last request: a registry, a login or a storage service
	Name       string        // library/ubuntu:24.04, library/ubuntu@sha256:…, or a URL; empty for a registry
	Status     int           // 0 if there was no answer
	Credential string        // the credential and where it is configured: user "ci" from registries.quay.io; empty: anonymous
	RetryAfter time.Duration // the registry's Retry-After, or 0
	Err        error         // the cause; nil if the other members say everything

	loggedIn bool   // a login service took the credential
	absent   bool   // the registry itself answered 404, rather than its login service or storage
	passing  bool   // the trouble may pass by itself, which MayPass cannot see otherwise
	detail   string // says more than the kind does
}

func (e *Error) Unwrap() error { return e.Err }

// Is reports whether the registry itself has said that there is no such manifest or blob
// (augment.ErrAbsent).
func (e *Error) Is(target error) bool {
	return target == augment.ErrAbsent && e.absent
}

func (e *Error) Error() string {
	name := e.Name
	if e.Registry != "" {
		name = strings.TrimSuffix(e.Registry+"/"+name, "/")
	}
	text := e.detail
	if text == "" {
		text = e.explain()
	}
	return e.Op + " " + auth.Redact(name) + ": " + text
}

func (e *Error) explain() string {
	switch e.Kind {
	case NotFound:
		return e.answered() + ": it does not exist; check the name"
	case Unauthorized:
		text := e.answered() + " without credentials: it is private or does not exist; check the name"
		if e.Registry != "" {
			text += ", or configure credentials for " + e.Registry
		}
		return text
	case Rejected:
		if e.loggedIn {
			return fmt.Sprintf("%s to %s: the login is good but does not cover this name; get access for it or use another credential", e.answered(), e.Credential)
		}
		return fmt.Sprintf("%s to %s: the credential is wrong, has expired or does not cover this name", e.answered(), e.Credential)
	case RateLimited:
		requests, when := "anonymous requests", "later"
		if e.Credential != "" {
			requests = "requests of " + e.Credential
		}
		if e.RetryAfter > 0 {
			when = "in " + e.RetryAfter.String()
		}
		return fmt.Sprintf("%s: no more %s for now; try again %s", e.answered(), requests, when)
	case Unresolvable:
		return fmt.Sprintf("the name of the host %s cannot be resolved%s; check the name, and DNS where this server runs", e.Host, because(e.Err))
	case Unreachable:
		return fmt.Sprintf("no connection to %s%s; check that it is up and that this server may connect to it", e.Host, because(e.Err))
	case Timeout:
		return fmt.Sprintf("%s did not answer in time; try again, or check that it is up", e.Host)
	case Untrusted:
		return fmt.Sprintf("no trusted connection to %s%s", e.Host, because(e.Err))
	}
	if e.Status >= 500 {
		return e.answered() + "; try again later"
	}
	return e.answered() + ", an unexpected status; check the name and the host"
}

func (e *Error) answered() string {
	text := fmt.Sprintf("%s answered %d", e.Host, e.Status)
	if reason := http.StatusText(e.Status); reason != "" {
		text += " " + reason
	}
	return text
}

// RedactURL returns the URL as it may be shown: without user, password, query
// and fragment, where people and storages put secrets, and tokens as auth.Redact
// shows them.
func RedactURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return "(not a URL with a host)"
	}
	return auth.Redact((&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String())
}
