// Package recipes turns the recipes that the configuration names into those that
// images are pulled through: it reads the documents and layers they refer to,
// checks them and takes the layers into the store.
//
// The files:
//
//	definition.go  what the configuration says of a recipe
//	loader.go      definitions become an Edition, or all that is wrong with them
//	document.go    container configs, from URLs and files, and what several say together
//	layer.go       layers, from documents, URLs, directories and archives
//	book.go        the Book of the edition in force
//
// What a URL names is read anew with each loading. A document that a recipe was
// made of is kept, and used when its URL cannot be read: a server must start
// without the network that it had. Layers at URLs are pinned by digest, by the
// configuration or the document, and are fetched once.
//
// The package must never put an edition into force in which one recipe is bad,
// read a file because a document from the network names it, use credentials for
// what a document names, or take in a layer that has not been checked.
package recipes
