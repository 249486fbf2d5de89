// Package containerconfig is the wire form of a recipe: what clients of the API
// send as containerConfig, and what Fusion and others publish as a JSON document.
// It reads, merges and checks such documents, for the API, for recipes of the
// configuration and for the command line. What a layer may name, and how a layer
// is taken in from its location, is decided here once.
//
// The package must never read a file because a document from the network names
// it, or put the contents of a layer or the value of a variable into an error.
//
// Files: wire.go (Config and Layer), document.go (a Document: its name, {arch} and
// reading it), merge.go (several documents as one, and what they contradict each
// other in), layer.go (a Taker takes layers in from their locations), inline.go
// (locations that are the layer).
package containerconfig
