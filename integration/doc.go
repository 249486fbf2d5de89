// Package integration tests waveproxy from outside: the real binary between
// real registries (package upstream) and real clients (package engine), and the
// OCI conformance suite. It holds tests only, and must never reach beyond
// loopback.
package integration
