// Package acr is a keychain for Azure Container Registry: *.azurecr.io,
// *.azurecr.cn and *.azurecr.us.
//
// The identity is a service principal, a workload identity or a managed
// identity. Microsoft Entra ID gives it an access token, which the registry
// exchanges for a refresh token of its own. The identity needs the role AcrPull.
//
// The package must never send a token to a registry that is not Azure's, or let
// a secret or a token into an error or a log.
//
// Files: acr.go (the registries and their tokens), identity.go (Azure identities).
package acr
