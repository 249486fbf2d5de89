// Package harness has the code that the integration tests share. It builds the
// binary once for all packages of a run, starts it, submits and pulls, and makes
// the layers and images that are submitted. When a server stops, its log, metrics
// and storage are searched for secrets: a test that leaks one fails.
//
// It must never be imported by code that ships.
//
// Files: api.go (requests and answers), bucket.go (a bucket for storage), binary.go (building and running the
// program), certificate.go (a certificate for localhost), engines.go (pull and
// run or fail), files.go (files and waiting), image.go (images as a foreign
// client reads them), layer.go (layers and submissions), main.go (TestMain of
// every package), nextflow.go (requests as Nextflow sends them), proxy.go (a
// running server), recipe.go (a recipe and its images), registry.go (images for
// test registries), secret.go (the search for secrets), settings.go
// (configurations).
package harness
