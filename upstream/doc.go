// Package upstream is everything waveproxy says to other registries: reading
// manifests, configs and blobs, fetching layers from URLs, logging in.
//
// Clients choose the host with the image name, so every host is a stranger until the
// configuration lists it. One request to a registry may grow
// into several, through redirects, logins and retries; each of them passes the
// same chain, from the outside in:
//
//	repository.go  a registry's answers as checked objects
//	head.go        what HEAD says, and GET where HEAD is refused
//	stream.go      a part of a blob, made of as many answers as it takes
//	layer.go       a blob as a whole, verified, or one part of it
//	listing.go     tags, and what is attached to a digest
//	fetch.go       a layer at a URL
//	pace.go        how slowly a layer may come
//	checklogin.go  whether a registry accepts a password
//	client.go      what is configured
//	policy.go      which repositories may be read
//	policyurl.go   which URLs may be fetched on whose behalf
//	call.go        one question with its deadlines, whatever it takes
//	challenge.go   what a registry asks for, and which of it is answered
//	tokencache.go  logins, shared by concurrent calls of one identity
//	tokenlife.go   how long they last
//	transport.go   redirects, and one hop of a call
//	route.go       certificates, and the transports by host and way
//	handshake.go   how much of TLS is taken, and what is kept of it
//	proxy.go       the way through a proxy
//	headers.go     how many headers are taken, and which are kept
//	retry.go       which failures of a hop are worth another try
//	queue.go       how many requests a host gets at a time, and whose
//	guard.go       which addresses may be connected to
//	charge.go      what documents cost the request that wants them
//	errors.go      what went wrong, told to people; cause.go finds it out, and reason.go
//	               is what is kept of it
//	transient.go   which errors leave an earlier answer good
//
// The package must never ask a registry about a repository that the configuration
// denies, connect an unlisted host at an address that is not public, follow an
// unlisted host to a listed host at such an address, send a credential to another
// origin than the origin that asked for it, give one identity's token to another,
// call something absent because it could not be reached, or put a secret, an
// answer's body or a URL's query string into an error.
package upstream
