// Package api is the control plane: the HTTP endpoints that turn requests into
// tokens, in the shapes that Nextflow and the wave CLI send and read. Each resource
// has a file; openapi.json describes all of them to others.
//
// A request is checked in this order, and the first thing wrong is what the
// answer names: method, content type and host, login, rate, body size, JSON, features
// this server does not have, image references (the image's, then those it includes),
// platforms and the caller's policy, the recipe and its layers' members, lifetime. The steps
// that take time come last: the layers in their order, the included images in
// theirs, the base image. Nothing is stored before the base image has been read and the
// whole request has turned out to be good, except layers of other hosts, which
// are kept once they are verified.
//
// Requests that this server cannot serve are refused, or forwarded to a Wave server
// when the configuration names one. A token of this server is never forwarded.
//
// Errors are {"message": "…"} on one line, because clients print the body as it is.
// A refusal is never 500, 502, 503 or 504, and 429 only for a client that asks too
// often, because clients retry those statuses. No answer is a redirect, because
// clients do not follow them.
//
// The package must never echo a layer's contents, let a request name whose
// credentials are used, keep or show a caller's token, or decide how an image
// is rewritten.
//
// Files: api.go (Options, New, answers), routes.go (the table of endpoints),
// body.go (bodies as they arrive, and their bounds), decode.go (JSON), host.go (names
// of this server), caller.go (logins and rates),
// admin.go (logins of admins), request.go (the wire types of a submission),
// container.go (submissions), words.go (what messages call the parts of a request), ownname.go (images that are names of this server), token.go (what a token stands for, and ending one),
// forward.go (requests for a Wave server), inspect.go (images as they are), login.go
// (checking logins), serviceinfo.go (the version), health.go (liveness and
// readiness), openapi.go (the OpenAPI document).
package api
