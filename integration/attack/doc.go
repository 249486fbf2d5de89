// Package attack does what an enemy would do, as a client, as a registry, or as
// the owner of a domain. Each test proves that the attack is refused and that its
// target saw nothing. Each has a control: the same request works where it is
// allowed. A test that must see every connection runs in a network of its own,
// where every address is this machine. A failure says BREACH.
//
// Files: address_test.go (forbidden addresses in every spelling), archive_test.go
// (layers that are no proper archive), attack_test.go (canary, raw requests,
// memory), bigimage_test.go (an image of one large layer, and clients that do not
// read), blob_test.go (registries that lie about blobs), body_test.go (bodies of many
// elements, slow ones, and ones of other sites' pages), bomb_test.go (layers
// that unpack to too much), cost_test.go (small requests that cost much),
// credentials_test.go (which servers receive a login), deputy_test.go (logins of
// one registry at another), document_test.go (documents that cost memory, sizes below
// zero, other platforms), endless_test.go (answers without end),
// environment_test.go (a proxy that the environment names),
// guess_test.go (passwords guessed at once, beside right ones),
// hostile_test.go (a registry with one attack per repository), large_test.go
// (large bodies and headers), liar_test.go (a registry that sends the server
// elsewhere), main_test.go (TestMain), multiplied_test.go (small numbers and documents
// of which a server could make large ones), network_test.go (every address and name of
// a network), ownnetwork_test.go (a process in a network of its own),
// path_test.go (paths and names), policy_test.go (what an identity may not read),
// rebinding_test.go (names that change their address), scope_test.go (what a token
// opens), share_test.go (one client's downloads, processes and questions),
// slow_test.go (slow clients),
// spelling_test.go (hosts of denied registries in every spelling),
// stream_test.go (blobs and connections that last),
// tinyimage_test.go (an image that is served unchecked), token_test.go (forged
// and revoked tokens).
package attack
