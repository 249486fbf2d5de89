// Package blobstore keeps the bytes that this server makes or takes in: injected
// layers, and the configs, manifests and indexes of augmented images, each under
// its digest. It also keeps small named records, which package auth fills with
// encrypted grants and revocations. Package storetest has the tests that every
// Store passes.
//
// The package must never show a reader a part of a blob, or bytes that do not
// have the digest they are stored under. It must never decide who may read
// what: a caller that knows a digest gets the blob, so callers check access
// first. It knows nothing of images or tokens.
//
// Files: store.go (the Store interface, its errors, and the hashing copy of every
// Put), packed.go (blobs that are kept with a record), dir.go (a directory, which
// processes may share), layout.go (where it has what), format.go (its version),
// objects.go (what Bucket needs of an
// object storage), bucket.go (the store in a bucket), bucketread.go (objects that are read
// to their end, with deadlines), bucketpack.go (records), bucketlines.go (lists that
// servers add to), bucketrevoked.go (revocations), bucketcheck.go (conditions, health,
// collection), durable.go (how Dir writes a file that is whole or absent, even after a crash),
// damage.go (finding and replacing damaged blobs), collect.go (deleting what no
// promise needs any more), use.go (what is in use), check.go (looking at all of it), mem.go (memory, for blobs that need not outlive the
// process), stage.go (one temporary file, for blobs that may not be wanted), serve.go
// (a blob as the answer to an HTTP request).
package blobstore
