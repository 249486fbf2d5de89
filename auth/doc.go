// Package auth answers three questions: what does this token mean, whose
// credentials reach the upstream registry, and who may ask for images, and for
// which.
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
//	identity.go     the identities that only the server itself gives
//	caller.go       who asks, and the tokens they log in with
//	passwords.go    users and passwords
//	htpasswd.go     the file they come from
//	hidden.go       what keeps secrets out of printed values
//	policy.go       what a caller may do
//	pattern.go      which repositories something is about
//
// The packages below this one log in to cloud registries and check the tokens of
// identity providers, with the libraries of those. Only cmd imports them.
//
// The package must never log or return a token, a key or a password in an
// error, never touch a store for a token whose signature does not verify, and
// never speak to a registry.
package auth
