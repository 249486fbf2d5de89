// Package api is the control plane: the HTTP endpoints that turn requests into
// tokens, in the shapes that Nextflow and the wave CLI send and read. One file
// per resource; routes.go has the table of all of them, openapi.json describes
// them to others.
//
// A request is checked in this order, and the first thing wrong is what the
// answer names: method and content type, login, rate, body size, JSON, features
// this server does not have, image references (the image's, then those it includes),
// platforms and what the caller may ask for, recipe with what it says about its layers, lifetime; then, what
// takes time: the layers in their order, the included images in theirs, the
// base image. Nothing is stored before the base image has been read and the
// whole request has turned out to be good, except layers of other hosts, which
// are kept once they are verified.
//
// What this server does not do is refused, or forwarded to a Wave server when
// the configuration names one. A token of ours never is.
//
// Errors are {"message": "…"} on one line, for clients print the body as it
// is. A refusal is never 500, 502, 503 or 504, and 429 only for who asks too
// often: clients retry those.
// Nothing is ever a redirect: clients do not follow.
//
// The package must never echo a layer's contents, let a request name whose
// credentials are used, keep or show a caller's token, or decide how an image
// is rewritten.
package api
