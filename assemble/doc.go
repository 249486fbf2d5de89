// Package assemble makes augmented images: a Resolver pins what a reference
// names, applies a recipe and stores every byte that this server adds; Layers
// takes added layers in, from requests, URLs, images and files, and stores
// nothing that fails a check.
//
// Base images are read once for any number of concurrent submissions. What is
// remembered of them is kept per identity and repository, because access differs
// between identities.
//
// The package must never return a grant without all blobs that its image needs of this
// server, or serve HTTP.
//
// Files: resolve.go (Resolver), archives.go (the layers that an image is made of), use.go (layers of recipes stay), sizes.go (sizes that manifests claim), source.go (reading base images), ingest.go
// (Layers), layerrecord.go (what is remembered of a layer), include.go (layers of other images), inspect.go
// (images as they are), own.go (images by names of this server), permit.go
// (whether a pull would be refused), layerindex.go (indexes of layers: memory and records), rights.go (which layers could be read lately),
// readlayer.go (reading layers for them), layerfile.go (files of layers), charge.go (what documents cost a request).
package assemble
