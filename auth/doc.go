// Package auth answers three questions: which grant does this token stand for,
// which credentials reach the upstream registry, and which images may this caller
// ask for.
//
// A token is a signed, expiring name for a grant; the grant says which image,
// pinned by digest, and what was added to it. Tokens mints, opens and revokes
// tokens and keeps grants encrypted in a Records store that several replicas
// may share. A Keychain finds the credential for a registry.
//
// The packages below this one log in to cloud registries and check the tokens of
// identity providers, with the libraries of the clouds and providers. Only cmd
// imports them.
//
// The package must never log or return a token, a key or a password in an
// error, never touch a store for a token whose signature does not verify, and
// never speak to a registry.
//
// Files: token.go (the 39 characters: layout, parsing, errors), key.go (the signing
// key, its file, and the keys derived from it), grant.go (the content of a token, and
// its encrypted record), grants.go (grants without a token), tokens.go (minting,
// revoking), open.go (opening), redact.go (tokens in texts for the log), keychain.go
// (credentials by registry), dockerconfig.go (credentials from Docker's config.json),
// helper.go (credential helpers; helper_unix.go and helper_windows.go end them), caller.go (callers, and the tokens they log in with), identity.go (reserved
// identities), passwords.go (users and passwords), htpasswd.go (the file of users),
// hidden.go (secrets in printed values), policy.go (what a caller may do), pattern.go
// (sets of repositories), host.go (the one spelling of a registry's host).
package auth
