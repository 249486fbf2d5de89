// Package augment rewrites container images: given a base image and a recipe
// it computes the manifests, configs and indexes of the augmented image.
//
// Rewriting is a pure function of its inputs. The same base bytes, recipe and
// platforms give the same digests on every machine, which is why a token can
// stand for one immutable image and any replica can serve it. JSON is edited
// member by member, so what this package does not own survives byte for byte:
// no typed structure of any library keeps every field of a real image.
//
// The package must never open a connection or a file, read the clock or a
// random source, or know where layers are stored: bytes come and go through
// Source and Archives. The files are listed from the inside out.
//
// Files: object.go (exact bytes with their digest, and the JSON edit),
// mediatype.go (Docker and OCI names, the kind of a document), references.go
// (the descriptors of a document, within bounds),
// unfit.go (why a recipe leaves an image alone), platform.go (parsing and matching
// platforms), recipe.go (what to add),
// config.go (rewriting the config), extend.go (variables made of the image's), entrypoint.go (the chain of entrypoints),
// chainenv.go (the program that it needs), manifest.go (rewriting manifest and index),
// annotations.go (what must not stay in them),
// apply.go (reading the base through Source and rewriting bottom-up), index.go (its
// indexes), choose.go (which images engines choose),
// collect.go (the documents and layers that it leads to),
// prepare.go (the layers as they must stand above one base image), landing.go (which of
// them change there), placing.go (their entries where they land), placingturn.go (turns for that),
// certificates.go (finding and extending what the image trusts), trustlayer.go (the layer
// of it),
// archive.go (checking layer archives), decompress.go (what they unpack to),
// pack.go (a directory as a reproducible archive), repack.go (writing archives anew), latedirs.go (directories that are named again),
// overlay.go (which entries count when archives are stacked), heldmemory.go (what their
// names take).
package augment
