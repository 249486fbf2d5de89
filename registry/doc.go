// Package registry is the data plane: a read-only OCI registry under /v2 whose
// images are other registries' images with something added.
//
// What happens to a request, in order:
//
//  1. Only GET and HEAD are answered; any other method is 405 UNSUPPORTED
//     (Server.ServeHTTP).
//  2. If the server has passwords ("registry.auth: basic"), every path asks for a
//     login first: without a good one, the answer is 401 UNAUTHORIZED with a Basic
//     challenge, and nothing more is said. An address that guesses too often gets
//     429 TOOMANYREQUESTS. Without passwords there is no challenge at all: the
//     token in an image's name is the credential (front.BasicLogin).
//  3. The path is parsed after decoding: /v2/wt/<token>/<name>/<resource>, or
//     /wt/<token>/v2/<name>/<resource> for mirror settings that append /v2
//     themselves. A component of at most 32 characters in the token's place is the
//     name of a recipe. /v2, /v2/ and /wt/<token>/v2[/] answer 200 without opening
//     the token, and 404 NAME_UNKNOWN for a recipe that the configuration does not
//     have. Any other path is 404 NAME_UNKNOWN: there is no service without a
//     token or the name of a recipe (parseRoute, isRecipe).
//  4. The token is opened. A malformed, forged or unknown token is 404
//     NAME_UNKNOWN. An expired or revoked one is 403 DENIED, because containerd
//     shows people the message of a 403 only (tokenImages).
//  5. The policy of the configuration in force must allow the image's registry and
//     the sources of its layers, and the name must be the grant's image, without its
//     registry. Otherwise the answer is 403 DENIED (permit, Server.serveToken).
//  6. A pull is counted for its user or, without logins, for its address; a client
//     over its limit gets 429 TOOMANYREQUESTS. All manifest requests for one token
//     within a minute are one pull. Blobs, tags and referrers do not count, so that
//     a pull that has begun can end (Server.countPull).
//  7. A manifest by tag is the grant's root, if the tag is the grant's. A manifest
//     by digest must belong to the image or to its provenance. The pinned base
//     digest is 403 DENIED with an explanation, because people try it; any other
//     is 404 MANIFEST_UNKNOWN. Manifests are never redirected, and Range is ignored
//     on them, because containerd asks for bytes=0- of everything
//     (Server.serveManifest).
//  8. A blob must belong to the image, else 404 BLOB_UNKNOWN, whether or not the
//     store has it: a digest is not a permission. Manifests are not blobs. Four
//     sources are asked in this order (Server.serveBlob): the store for configs and
//     injected layers, the provenance, the cache, if there is one, and the upstream.
//     HEAD of an upstream's blob is answered from its descriptor, and a client that
//     has the blob gets 304. GET gets the bytes from the cache, or a 307 to where
//     the upstream keeps them, or the bytes as the upstream sends them; the client
//     verifies them.
//  9. tags/list names the grant's one tag (serveTags). referrers/<digest> lists the
//     provenance of a manifest or index of the image, if we made it, and is an
//     empty index for any other digest: the upstream's referrers are about the base
//     image (serveReferrers).
//
// With the name of a recipe in the token's place, /v2/wt/<recipe>/<repository>/
// <resource>, the following steps replace 4 to 6 and 9. They also find the image for
// 7 and 8: serveManifest and serveBlob run unchanged. Until the configuration has had
// a recipe, such a name is read as a token (Recipes.Enabled).
//
//  1. A recipe that the configuration does not have is 404 NAME_UNKNOWN
//     (paths.parse).
//  2. The repository is read as in image names: it begins with its registry or
//     with an alias of one, and is Docker Hub's otherwise. With ?ns=<registry>,
//     which containerd sends to mirrors, it is the repository at that registry and
//     is taken literally. registry-1.docker.io and index.docker.io are docker.io.
//     An invalid name is 404 NAME_INVALID. A name says where to look and never
//     where to connect: the upstream's policy and dialer decide (paths.parse).
//  3. A repository that the recipe's images do not match is 403 DENIED for every
//     resource, even if it was advertised when they did (paths.parse). So is an image
//     that the policy of the configuration in force does not allow (permit).
//  4. tags/list is the upstream's, read with the recipe's identity, page by page, and
//     kept for 30 seconds. Only the query of the upstream's Link is passed on, and each
//     query is one pull (lists.serveTags).
//  5. A manifest by tag is the upstream's image under that tag, with the recipe in
//     force applied. What is no container image (a signature, a list of attachments, a
//     chart, a model) is served as in step 8 instead, and with "unfit: plain" so is
//     an image that the recipe is not for (tagSource.ask). An entry of an
//     index whose manifest or config the registry does not have (404) is left out, and
//     asked for again after ten minutes. For 30 seconds, or the recipe's tag_ttl, after the upstream has confirmed a tag, all
//     servers that share the store serve it without an upstream request. Then a
//     server asks with HEAD, and with GET if the digest is another or HEAD is refused. Concurrent
//     requests to one server share one look-up; servers share its result by the
//     tag's record (tagTable.imageByTag, tagTable.lookUp, tagSource.ask,
//     tagTable.lastKnown).
//  6. While an upstream is down, busy (429) or broken (5xx), the last known tag is
//     served, for a week after its last confirmation. The answer has a Warning
//     header. Each failed attempt is logged; attempts are 10 to 60 seconds apart. A
//     tag that was not confirmed within a week under the recipe in force is then
//     429, 502 or 504, with the upstream's Retry-After, or 403 if the trouble does not
//     pass by itself. A server repeats that error
//     until its next attempt, even if another server has meanwhile recorded the tag
//     (tagTable.lookUp, failures).
//     A refusal ends the tag, whatever recipe a server has in force: a 401, 403 or
//     404 of the upstream, this server's policy, or an image that cannot be served.
//     The server that was refused records that and repeats the refusal for 5 seconds
//     without asking. Other servers find the record at their next look-up, so they
//     serve the tag from memory for at most its tag_ttl more, or 60 seconds if the upstream
//     has failed for them (isFinal, tagTable.forget).
//  7. Before a tag's image is advertised, every digest that it leads to is recorded
//     beside the store, in one encrypted record of the image, for this recipe,
//     identity and repository alone. So every server that shares the store serves
//     the digest, in whatever order digests are asked for, as long as the recipe
//     exists: the tag may move and the recipe change meanwhile. Records go with the
//     key that encrypted them, and are made anew when the tag is asked for next.
//     Entries of an untouched index that were not read are not part of the image:
//     step 8 serves them (ledger.advertise, ledger.imageOf).
//  8. A manifest by any other digest is the upstream's, with its very bytes and
//     nothing added, whether it is an image or not, because clients that pin a
//     digest verify it. It is fetched once and recorded like our own. The manifests
//     of an index are not read with it: each is requested, and recorded, as an image
//     of its own (passThrough.imageByDigest). GETs of an image to which nothing was
//     added are counted and marked in the log (Server.serveNamed).
//  9. A blob must be recorded, else 404 BLOB_UNKNOWN without an upstream request. A
//     digest without a record costs one look at the directory of the repository's
//     records, and at one file (imageIndex.find).
//  10. referrers/<digest> of an image that we made is as under a token. An image that only
//     an older version recorded is recorded first (Server.serveNamedReferrers). Of any
//     other digest it is the upstream's list, or, where the upstream has no such API, the
//     index under its tag for the digest; a refusal or a failure is never an empty list.
//     It counts as a pull (lists.serveReferrers).
//  11. All requests for tags in this server's memory and for recorded digests of a
//     repository under a recipe are one pull a minute. Any other tag or digest
//     counts by itself, because it may need an upstream request. Blobs, and referrers of
//     what we made, do not count (Server.namedManifest).
//
// The provenance of what we made is an in-toto statement with a SLSA v1 predicate,
// in an OCI manifest whose subject is the manifest it describes. It is a function of
// the grant, which has the builder of that time, and of the subject. So its bytes
// never change; they are computed on request and stored nowhere. It names the base
// image by digest, the recipe's layers, the names, not the values, of the variables
// that were set, and whether entrypoint, command and working directory were replaced,
// without the words, which may be secrets. Grants of versions that did not keep the
// builder have none.
//
// Tokens stand for images that were computed when they were minted, so the upstream
// is never asked about their tags. Without a cache a warm pull costs one upstream GET
// per untouched layer and no other request; with one, a HEAD for each layer that the
// repository has not read for five minutes.
//
// One case reads manifests of a token's image later: an image to which nothing was
// added keeps its index as the upstream has it, with entries that were not read.
// Those manifests are fetched by digest when a client asks for them, each as a pull of
// its own (late). A manifest for another platform than the policy's is 403 DENIED, and
// its blobs are 404, because the policy of a caller may limit platforms.
//
// Images are kept in memory within bounds in bytes. A larger one is loaded for each
// request, which its budget pays.
//
// Bodies from the upstream are copied with buffers that grow with the speed of the
// stream. All streams of the process share a fixed number of large ones (copyBody).
//
// The package must never serve a digest that is not reachable from the token's
// image or was not advertised under the recipe's name, advertise a digest that
// another server cannot serve, hide a refusal of the upstream behind an older
// answer for longer than step 6 says, report an upstream failure other than 404 as
// 404, or end a cut response as if it were whole.
//
// Files, in the order in which a request meets them: server.go (Server, its Options,
// what comes first), route.go (paths), tokenimage.go (the images of tokens), image.go
// (image), permit.go (what the policy says of an image), ownname.go (what a pull would give, for
// the API), kept.go (what is kept of
// descriptors), late.go (late), platform.go (the platforms of a grant), manifest.go
// (manifests and tags), blob.go (the order of blob sources), clientstreams.go (what blobs
// that are sent cost their clients), stored.go (blobs of the store), attested.go (provenance of an
// image), cached.go (blobs of the cache), streamed.go (blobs of the upstream),
// copybody.go (copyBody), referrers.go (lists of provenance),
// lists.go (the lists of upstreams: tags, attachments),
// provenance.go (its documents). With the name of a recipe: named.go (serveNamed,
// Recipes), namedpath.go (paths.parse), tagtable.go (tagTable), tagrecord.go (its
// records), tagsource.go (asking about tags), failures.go (failures), ledger.go
// (ledger), imageindex.go (imageIndex), groupindex.go (groupIndex), use.go (keepUsed), passthrough.go
// (passThrough).
package registry
