// Package oidc checks the JSON web tokens of an OpenID Connect issuer, with
// coreos/go-oidc.
//
// The issuer is asked for its keys when the first token comes, once an hour from
// then on, and when a token has a key that is not among them. Tokens are sent
// nowhere.
//
// The package must never accept a token for another audience, put a token into an
// error, or let each forged token cause a request to the issuer.
//
// Files: oidc.go (Verifier and the checks of a token), keys.go (the issuer's keys).
package oidc
