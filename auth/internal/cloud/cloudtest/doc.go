// Package cloudtest serves the tests of the clouds' keychains: stand-ins of cloud
// APIs on loopback, an environment without the machine's own identities,
// and connections that never leave the machine.
//
// Files: cloudtest.go (environment, stand-ins, clock, checks of errors).
package cloudtest
