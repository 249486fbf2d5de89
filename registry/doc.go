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
//     without a token or the name of a recipe, which is at most 32 characters.
//  4. The token is opened. Malformed, forged or unknown is 404 NAME_UNKNOWN;
//     expired or revoked is 403 DENIED, because containerd shows people the
//     message of a 403 only.
//  5. The name must be the grant's image, without its registry: 403 DENIED.
//  6. A manifest by tag is the grant's root, if the tag is the grant's. A
//     manifest by digest must be one of the image's, or of its provenance. The
//     pinned base digest is 403 DENIED with an explanation, for it is what people
//     try; any other is 404 MANIFEST_UNKNOWN. Manifests are never redirected, and
//     Range is ignored on them (containerd asks for bytes=0- of everything).
//  7. A blob must belong to the image, else 404 BLOB_UNKNOWN, whether or not
//     the store has it: a digest is not a permission. Manifests are not blobs.
//     Configs and injected layers come from the store. HEAD on any other is
//     answered from its descriptor, and GET streams it from the upstream
//     without looking at the bytes, which the client verifies.
//  8. tags/list names the grant's one tag. referrers/<digest> lists the
//     provenance of a manifest or index of the image, if we made it, and is an
//     empty index for any other digest: what the upstream says about the base is
//     not about this.
//
// With the name of a recipe in the token's place, /v2/wt/<recipe>/<repository>/
// <resource>, the steps from the fourth on are these:
//
//  1. A recipe that the configuration does not have is 404 NAME_UNKNOWN.
//  2. The repository is read as in image names: it begins with its registry or
//     with an alias of one, and is Docker Hub's otherwise. With ?ns=<registry>,
//     which containerd sends to mirrors, it is the repository at that registry and
//     nothing is taken off it. registry-1.docker.io and index.docker.io are
//     docker.io. What is no name is 404 NAME_INVALID. A name says where to look
//     and never where to connect: the upstream's policy and dialer decide.
//  3. A repository that the recipe's images do not match is 403 DENIED, whatever
//     is asked of it, also if it was advertised when they did.
//  4. tags/list is 404 UNSUPPORTED and says why: tags are the upstream's.
//  5. A manifest by tag is what the tag names at the upstream with the recipe in
//     force applied. A tag is believed for 30 seconds, by all servers that share
//     the store, in which the upstream is asked nothing. Then it is asked with
//     HEAD, and with GET if the digest is another. However many
//     ask a server, it asks once.
//  6. An upstream that is down, busy (429) or broken (5xx) leaves the tag what it
//     was, for a week; the answer has a Warning header, and the log a line each
//     time the upstream was asked in vain, which is every 10 to 60 seconds. A tag
//     that nobody has pulled yet is then 429, 502 or 504, with the upstream's
//     Retry-After. An upstream that says 401, 403 or 404 is believed at once, and
//     again for 5 seconds; other servers, whatever recipe they have in force, then
//     have nothing to fall back on when they ask next.
//  7. Before a tag's image is advertised, each digest that it leads to is recorded
//     beside the store, encrypted, for this recipe, identity and repository alone.
//     So any server that shares the store serves it, in whatever order things are
//     asked for, as long as the recipe exists: the tag may move and the recipe
//     change meanwhile. Records go with the key that encrypted them; they are made
//     anew when the tag is asked for next.
//  8. A manifest by any other digest is the upstream's, with its very bytes and
//     nothing added, whether it is an image or not: who pins a digest verifies it.
//     It is fetched once and recorded like our own; the manifests of an index are
//     asked for one by one. GETs of these are counted and marked in the log.
//  9. A blob must be recorded, else 404 BLOB_UNKNOWN without a question to the
//     upstream. A digest that nobody has costs one look at a file.
//  10. referrers/<digest> is as under a token. What it lists is recorded first.
//  11. Each repository under a recipe counts as one pull a minute; a tag or a
//     digest that is not known here counts by itself, for the upstream is asked
//     for it. Blobs and referrers do not count.
//
// The provenance of what we made is an in-toto statement with a SLSA v1 predicate,
// in an OCI manifest whose subject is what it is about. It is a function of the
// grant and the subject, of which the grant has the builder as it was: so its
// bytes never change, and are computed when somebody asks and stored nowhere. It
// names the base image by digest, the recipe's layers, the variables that were set
// without their values, and whether entrypoint, command and working directory
// were replaced, without the words, which may be secrets. Grants of versions that
// did not keep the builder have none.
//
// Tokens stand for images that were computed when they were minted (Resolver),
// so nothing here asks the upstream about their tags, and a warm pull costs one
// upstream GET per untouched layer and no other request.
//
// One case reads manifests later: an image to which nothing was added keeps its
// index as the upstream has it, with entries for platforms nobody asked for.
// Those are fetched when they are, by digest (image.expand).
//
// The package must never serve a digest that is not reachable from the token's
// image or was not advertised under the recipe's name, advertise one that another
// server cannot serve, hide a refusal of the upstream behind an older answer,
// report anything but an upstream 404 as 404, or end a cut response as if it were
// whole.
package registry
