// Package conformance runs the OCI distribution-spec suite against augmented images,
// and against distribution itself as a control.
//
// Files: conformance_test.go (the suite and its report), main_test.go (TestMain).
package conformance
