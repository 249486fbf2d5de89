// Package pull tests the data plane with a foreign client: every digest and size of
// every kind of image, what a pull costs the upstream, and the cache of blobs.
//
// Files: cache_test.go (the cache: bounds, permission, crashes), main_test.go
// (TestMain), pull_test.go (contents, requests, restarts), refused_test.go
// (requests for other images than the token's).
package pull
