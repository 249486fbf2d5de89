// Package registry is the data plane: a read-only OCI registry under /v2 whose
// images are other registries' images with something added.
//
// What happens to a request, in order:
//
//  1. Only GET and HEAD are answered; anything else is 405 UNSUPPORTED.
//  2. /v2 and /v2/ are 200 without a challenge, with or without a token in the
//     path: the token in an image's name is the credential.
//  3. The path is parsed after decoding: /v2/wt/<token>/<name>/<resource>, or
//     /wt/<token>/v2/<name>/<resource> for mirror settings that append /v2
//     themselves. What does not parse is 404 NAME_UNKNOWN. There is no service
//     without a token.
//  4. The token is opened. Malformed, forged or unknown is 404 NAME_UNKNOWN;
//     expired or revoked is 403 DENIED, because containerd shows people the
//     message of a 403 only.
//  5. The name must be the grant's image, without its registry: 403 DENIED.
//  6. A manifest by tag is the grant's root, if the tag is the grant's. A
//     manifest by digest must be one of the image's. The pinned base digest is
//     403 DENIED with an explanation, for it is what people try; any other is
//     404 MANIFEST_UNKNOWN. Manifests are never redirected, and Range is
//     ignored on them (containerd asks for bytes=0- of everything).
//  7. A blob must belong to the image, else 404 BLOB_UNKNOWN, whether or not
//     the store has it: a digest is not a permission. Manifests are not blobs.
//     Configs and injected layers come from the store. HEAD on any other is
//     answered from its descriptor, and GET streams it from the upstream
//     without looking at the bytes, which the client verifies.
//  8. tags/list names the grant's one tag; referrers/<digest> is an empty index.
//
// Tokens stand for images that were computed when they were minted (Resolver),
// so nothing here asks the upstream about tags, and a warm pull costs one
// upstream GET per untouched layer and no other request.
//
// One case reads manifests later: an image to which nothing was added keeps its
// index as the upstream has it, with entries for platforms nobody asked for.
// Those are fetched when they are, by digest (image.expand).
//
// The package must never serve a digest that is not reachable from the token's
// image, report anything but an upstream 404 as 404, or end a cut response as
// if it were whole.
package registry
