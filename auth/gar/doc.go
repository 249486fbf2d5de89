// Package gar is a keychain for Google Artifact Registry and what is left of
// Container Registry: *.pkg.dev, gcr.io and *.gcr.io.
//
// The identity comes from a key file, else from Google's application default
// credentials: GOOGLE_APPLICATION_CREDENTIALS (a key, or workload identity
// federation), gcloud's login, the metadata server (workload identity of GKE,
// the service account of a machine). It needs the role Artifact Registry Reader.
//
// The package must never ask Google about a registry that is not Google's, or
// let a key or a token into an error or a log.
//
// Files: gar.go (the registries, the identity and its tokens).
package gar
