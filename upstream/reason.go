package upstream

import (
	"context"
	"errors"

	"github.com/waveproxy/waveproxy/internal/brief"
)

// reason is the cause of an Error as it is kept: its text, and what callers ask of it.
// Errors are remembered, for many names and for long, and what net/http and crypto/tls
// return would keep what a host has sent: 256 KiB of certificates are 2.5 MiB once they
// are parsed.
type reason struct {
	text string
	is   []error
}

func (r *reason) Error() string   { return r.text }
func (r *reason) Unwrap() []error { return r.is }

// maxReason bounds the text of a cause, in bytes. Messages do not show it.
const maxReason = 256

// settle says all that the cause of the error tells, and keeps no more of it. Afterwards
// the error holds texts of a bounded size, and nothing that a host has sent.
func (e *Error) settle() {
	if e.Err == nil {
		return
	}
	e.passing = MayPass(e)
	if e.detail == "" {
		e.detail = e.explain()
	}
	e.detail = brief.Text(e.detail, brief.Max)
	kept := &reason{text: brief.Text(e.Err.Error(), maxReason)}
	for _, sentinel := range []error{errQueued, errStalled, ErrForbiddenAddress, context.DeadlineExceeded, context.Canceled} {
		if errors.Is(e.Err, sentinel) {
			kept.is = append(kept.is, sentinel)
		}
	}
	if keychain, ok := errors.AsType[*keychainError](e.Err); ok {
		kept.is = append(kept.is, keychain) // the operator's own programs
	}
	e.Err = kept
}
