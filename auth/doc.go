// Package auth answers two questions about a pull: what does this token mean,
// and whose credentials reach the upstream registry.
//
// A token is a signed, expiring name for a grant; the grant says which image,
// pinned by digest, and what was added to it. Tokens mints, opens and revokes
// tokens and keeps grants encrypted in a Records store that several replicas
// may share. A Keychain finds the credential for a registry.
//
// The files:
//
//	token.go        the 39 characters: layout, parsing, errors
//	key.go          the signing key, its file, and what is derived from it
//	grant.go        what a token stands for, and its encrypted record
//	tokens.go       minting, opening, revoking
//	keychain.go     credentials by registry
//	dockerconfig.go credentials from Docker's config.json
//
// The package must never log or return a token, a key or a password in an
// error, never touch a store for a token whose signature does not verify, and
// never speak to a registry.
package auth
