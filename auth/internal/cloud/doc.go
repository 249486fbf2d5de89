// Package cloud is the common part of the clouds' keychains (auth/ecr, auth/gar,
// auth/acr): credentials that expire and are renewed in time,
// errors that quote no secret, and the HTTP client for the clouds' libraries.
//
// The package must never depend on one cloud, log, or keep a credential on disk.
//
// Files: cache.go (credentials and their renewal), client.go (HTTP), errors.go (errors
// without secrets).
package cloud
