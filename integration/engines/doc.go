// Package engines pulls and runs augmented images with Docker, containerd, Podman
// and skopeo.
//
// Files: engines_test.go (every kind of base image in every engine), chain_test.go
// (entrypoints that start each other), main_test.go (TestMain).
package engines
