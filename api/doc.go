// Package api is the control plane: the HTTP endpoints that turn requests into
// tokens, in the shapes that Nextflow and the wave CLI send and read. One file
// per resource.
//
// A request is checked in this order, and the first thing wrong is what the
// answer names: method and content type, body size, JSON, features this server
// does not have, image reference, platforms, recipe, lifetime, layers, base
// image. Nothing is stored before the base image has been read and the whole
// request has turned out to be good, except remote layers, which are kept once
// they are verified.
//
// Errors are {"message": "…"} on one line, for clients print the body as it
// is. A refusal is never 429, 500, 502, 503 or 504: clients retry those.
//
// The package must never echo a layer's contents, let a request name whose
// credentials are used, or decide how an image is rewritten.
package api
