// Package demo is the part of "waveproxy demo" besides the server: a registry
// in this process with one small image in it, and a client that pulls an image
// and unpacks it, so that the program in it can be run without a container
// engine.
//
// The image holds a program assembled here, for linux/amd64 and linux/arm64:
// the demo works on a machine that has no network, compiler or engine.
//
// The package must never listen on anything but loopback, take a blob whose digest
// it has not checked, write outside the directory it unpacks into, or run what it
// has pulled.
//
// Files: elf.go (the program), image.go (the image, the same bytes on every run),
// upstream.go (the registry that holds it), pull.go (the client), unpack.go (layers
// to files).
package demo
