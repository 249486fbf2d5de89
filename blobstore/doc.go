// Package blobstore keeps the bytes that are ours: injected layers, and the
// configs, manifests and indexes of augmented images, each under its digest.
// Beside them stand small named records, which package auth fills with
// encrypted grants and revocations.
//
// The files:
//
//	store.go    the Store interface, its errors, and the hashing copy of every Put
//	dir.go      a directory, which processes may share
//	durable.go  how Dir writes a file that is whole or absent, even after a crash
//	mem.go      memory, for what need not outlive the process
//	serve.go    a blob as the answer to an HTTP request
//	storetest/  the tests that every Store passes
//
// The package must never let anyone see a part of a blob, or bytes that do not
// have the digest they are stored under. It must never decide who may read
// what: whoever knows a digest gets the blob, so callers check first. It knows
// nothing of images or tokens.
package blobstore
