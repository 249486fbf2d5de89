// Package fault puts the server between upstreams that fail in the middle of an
// answer and clients that leave in the middle of one. A pull that can be
// completed must be completed, and neither side's failure may leave anything
// behind.
//
// Files: fault_test.go (each kind of fault, with Docker), leave_test.go (clients
// that leave), main_test.go (TestMain), random_test.go (a thousand pulls with random
// faults), redirect_test.go (blobs in another storage).
package fault
