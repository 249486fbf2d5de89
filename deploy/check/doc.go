// Package check tests the files in deploy: manifests and the chart against the
// types of Kubernetes, every configuration in them against waveproxy itself, and
// the rest with the programs that read it. It is a module of its own, so that
// its dependencies are not dependencies of waveproxy.
//
// The package must never change a machine or speak to a cluster.
//
// It has only tests: one file for each kind of file in deploy, and the checks of the
// objects that the manifests and the chart have in common.
package check
