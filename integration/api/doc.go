// Package api tests the control plane as its clients see it: answers, refusals
// with their reasons, and that a refusal changes nothing.
//
// Files: forward_test.go (requests for another Wave server, health), includes_test.go
// (images included as layers), main_test.go (TestMain), ownname_test.go (names of
// this server as images), refused_test.go (refused
// submissions), tls_test.go (certificates), waveapi_test.go (describe, delete,
// inspect, validate credentials).
package api
