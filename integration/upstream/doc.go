// Package upstream runs the registries that integration tests pull from, and
// fills them with small images of every kind that engines meet in the wild.
//
// The registry is the real one (distribution's handlers) in this process, so the
// recorded requests are those that a registry receives. Private registries have
// distribution's access controllers, too; only the token server is written here.
// The images hold a static busybox: they can be run, not only inspected.
//
// It must never listen on anything but loopback, fetch anything from outside,
// or be imported by code that ships. Images are the same bytes on every run, so
// that a digest in a failure message can be found again.
//
// Files: attestation.go (attestations in an index), fault.go (registries with
// planned faults), faultanswer.go (what a fault sends), faultblob.go (blobs of
// faulty registries), faulth2.go (faults of HTTP/2), image.go (the test images),
// private.go (registries with a login), push.go (pushing images), registry.go (a
// registry and its request list), rootfs.go (what is in the images), schema1.go
// (an image of schema 1), tokens.go (a token server).
package upstream
