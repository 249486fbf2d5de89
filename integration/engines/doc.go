// Package engines pulls and runs augmented images with Docker, containerd, Podman
// and skopeo.
//
// Files: engines_test.go (every kind of base image in every engine), main_test.go
// (TestMain).
package engines
