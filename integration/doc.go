// Package integration has the tests of waveproxy from outside: the real binary
// between real registries (package upstream) and real clients (package engine).
// Each folder has one theme and says in its doc.go what it tests. Package harness
// starts the binary and looks for secrets in everything it leaves behind. The
// tests must never reach beyond loopback.
package integration
