// Package cloud is what the keychains of the clouds (auth/ecr, auth/gar,
// auth/acr) have in common: credentials that expire and are renewed in time,
// errors that quote no secret, and the HTTP client for the clouds' libraries.
//
// It must never know a cloud, log, or keep a credential on disk.
package cloud
