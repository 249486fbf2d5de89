package blobstore

import (
	"context"
	"errors"
	"io"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Objects is a bucket of an object storage: what Bucket needs of it. Keys are paths
// without a slash at the start. It is safe for concurrent use. Calls end with ctx and
// repeat by themselves what a second try may bring. Their errors name the bucket, the
// operation and the remedy, and have no credential.
type Objects interface {
	// Get returns an object, or the part of it that the selection names. An absent one
	// is ErrNotFound; one that has the version not wanted is ErrUnchanged, and one that
	// has another version than the only one wanted ErrChanged.
	Get(ctx context.Context, key string, s Selection) (Object, error)
	// Put stores size bytes of r under the key, all at once, and returns their version.
	// If the condition does not hold, the error is ErrChanged and nothing is stored. When
	// it returns nil, the object is durable, and every later Get returns it.
	Put(ctx context.Context, key string, r io.ReaderAt, size int64, c Condition) (version string, err error)
	// Copy gives an object a second key, and returns its version there. An absent one is
	// ErrNotFound.
	Copy(ctx context.Context, from, to string) (version string, err error)
	// Delete removes an object. It may be absent.
	Delete(ctx context.Context, key string) error
	// List calls each with the keys that begin with the prefix, some at a time, and
	// returns its error. If the prefix is a directory, dirs asks for the directories right
	// below it instead, which end with a slash.
	List(ctx context.Context, prefix string, dirs bool, each func(keys []string) error) error
	// URL returns where a client without credentials can GET the object for this long.
	URL(ctx context.Context, key string, life time.Duration) (string, error)
}

// Located is a store of blobs that clients may fetch elsewhere.
type Located interface {
	// URL returns where a client without credentials can GET the blob for a while. It is
	// "" where this server gives it, as it does small ones.
	URL(ctx context.Context, desc ocispec.Descriptor) (string, error)
}

// Selection selects a part of an object, and under which condition it is wanted. The
// zero Selection is the whole object.
type Selection struct {
	Offset int64
	Length int64  // at most so many bytes; 0: all
	Only   string // the only version wanted; "": any
	Not    string // the version not wanted; "": none
}

// Object is an answer of Objects.Get. The caller closes the body.
type Object struct {
	Body     io.ReadCloser
	Size     int64     // of the whole object
	Version  string    // is another one when the bytes are others
	Modified time.Time // by the clock of the storage
}

// Condition says when an object is stored. The zero Condition is always.
type Condition struct {
	Absent  bool   // only if there is none
	Version string // only in place of this version
}

var (
	// ErrChanged says that a condition does not hold, because another writer was first.
	ErrChanged = errors.New("the object has changed")
	// ErrUnchanged says that an object has the version that is not wanted.
	ErrUnchanged = errors.New("the object has not changed")
)
