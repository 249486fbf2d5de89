// Package cli tests the commands other than serve, with the arguments and files
// of typical users.
//
// Files: cli_test.go (augment, inspect, token, layer, config, demo, version),
// main_test.go (TestMain).
package cli
