// Package recipes turns the recipes of the configuration into recipes that images
// are pulled through: it reads the documents and layers they refer to, checks them
// and takes the layers into the store.
//
// A URL of a document is read anew at each loading. The documents of a good recipe
// are stored, and the stored copy is used when the URL cannot be read, because a
// server must start again without the network. Layers at URLs are pinned by digest,
// by the configuration or the document, and are fetched once.
//
// At the start a recipe whose upstream does not answer waits, and the others do not
// wait for it. A reload puts all recipes into force or none.
//
// The package must never put a recipe into force that has a problem,
// read a file because a document from the network names it, use credentials for
// what a document names, or take in a layer that has not been checked.
//
// Files: definition.go (a recipe as the configuration has it), loader.go
// (definitions become an Edition, or the list of all problems), document.go
// (container configs from URLs and files, and their stored copies), certificates.go (authorities from files), layer.go
// (layers from documents, URLs, directories and archives), book.go (the Book of the
// edition in force).
package recipes
