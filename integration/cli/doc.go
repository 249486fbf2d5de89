// Package cli tests the commands other than serve, with the arguments and files
// that people give them.
//
// Files: cli_test.go (augment, inspect, token, layer, config, demo, version),
// main_test.go (TestMain).
package cli
