// Package clients replays what Nextflow and the wave command line send, from
// captured requests, and Nextflow's behaviour at the start of a workflow.
//
// Files: bodies_test.go (large bodies, layers that do not match), fusion_test.go
// (Nextflow with Fusion's layers), main_test.go (TestMain), nextflow_test.go
// (hundreds of tasks at once), replay_test.go (every captured body).
package clients
