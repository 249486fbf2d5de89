// Package check tests the files in deploy: manifests and the chart against the
// types of Kubernetes, every configuration in them against waveproxy itself, and
// the rest with the programs that read it. It is a module of its own, so that
// what this takes is not a dependency of waveproxy.
//
// It must never change a machine or speak to a cluster.
package check
