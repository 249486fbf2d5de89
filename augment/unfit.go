package augment

import (
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// ErrAbsent is the error of a Source whose registry has said that there is no such
// manifest or blob.
var ErrAbsent = errors.New("the registry does not have it")

// Unfit says that a recipe cannot be applied to anything that a reference names, so
// that what it names may be served as it is. The *Error in it says why.
type Unfit struct {
	// Base is the digest of the manifest or index that the reference names.
	Base digest.Digest
	// Image tells an image, for which the recipe is not meant, from an artifact: a
	// signature, a chart, a model.
	Image bool

	reason *Error
}

func (u *Unfit) Error() string { return u.reason.Error() }

func (u *Unfit) Unwrap() error { return u.reason }

// unfitness says that an Error tells an Unfit, and which; 0 for any other Error.
type unfitness int

const (
	unfitArtifact unfitness = iota + 1
	unfitImage
)

// notImage returns the *Error for a reference that names no image.
func notImage(format string, args ...any) error {
	return unfitError(unfitArtifact, format, args...)
}

// notFor returns the *Error for an image that the recipe is not meant for.
func notFor(format string, args ...any) error {
	return unfitError(unfitImage, format, args...)
}

func unfitError(unfit unfitness, format string, args ...any) error {
	return &Error{reason: fmt.Sprintf(format, args...), unfit: unfit}
}

// asUnfit puts the Unfit around an error that tells one.
func (w *walk) asUnfit(err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.unfit == 0 {
		return err
	}
	return &Unfit{Base: w.image.Base, Image: e.unfit == unfitImage, reason: e}
}
