// Package cache keeps blobs of other registries in a directory: verified,
// bounded in bytes, the least recently used evicted first. However many readers
// ask for a missing blob, the upstream is asked once: one download, the fill,
// writes a file, and each reader follows the growing file at its own speed.
//
// What a reader may rely on:
//
//   - The last bytes of a blob that is being filled are held back until all of
//     it has its digest and its size. Only then does a reader reach the end, so
//     a response with the full Content-Length is the right blob. The bytes before
//     the end are sent unverified, as the upstream sent them and as without a
//     cache.
//   - A fill does not depend on its first reader. It ends when its body ends or
//     fails, when it has had no reader for a while, and when it is slower than a
//     minimal rate; readers then go on by themselves.
//   - A fill that fails leaves nothing. Readers get its error at the first byte
//     that is missing; the next Open starts a new fill.
//   - When the disk fails instead (it is full, say), readers go on by
//     themselves: each calls its own fetch function at its own offset, and the
//     client notices nothing. These bytes are not verified here. For a while,
//     Open then returns ErrUnavailable for blobs that are not stored.
//
// The cache is never a permission. Blobs are kept per registry: bytes that one
// registry sent are given to readers of that registry only, so neither its wrong
// bytes nor its slowness reach another's readers. Within a registry, a reader shows
// first that the registry lets it read the blob (Reader.Proven), or follows a fill
// whose own request decides over the same access. No other reader follows a fill: its
// bytes are not verified, and a registry may have repositories of several owners. Sharing a blob among registries
// would save disk space at the price of a rule that is hard to keep.
//
// Room is made for bytes when they arrive, because a size is what a descriptor
// claims, and a stranger may have written the descriptor. For the same reason a
// descriptor with another size deletes nothing.
//
// Bytes that are not verified yet evict blobs only while more than half of the cache is
// stored. When there is no room left, a fill ends whose client, or registry, holds more
// than a quarter of the cache in such bytes, or far more than the client that needs
// room. So a fill that trickles keeps no other one out. A blob that is larger than the
// rest of the cache takes half of the cache again, while no other fill has bytes.
//
// An evicted blob that is being read keeps its disk space until the last reader has
// closed it, and so does the file of a fill that failed. These files take at most half
// of the cache. Any further one is emptied, and its readers go on by themselves. All
// files together are at most twice as large as the cache.
//
// A stored blob whose file has another size than it was stored with is dropped and
// fetched again. Its bytes are not verified again, because clients do that. To drop
// a blob by hand, delete its file, while the cache is running or not.
//
// The package must never give a stored blob's name to bytes that do not have that
// digest, end a blob early as if it were whole, or give a reader a byte that its
// registry has not let it read.
//
// Files: cache.go (opening a blob: a hit, a fill to follow, or a new one),
// disk.go (the directory: its blobs, room, eviction), fill.go (the one download
// that all readers of a blob follow), bounds.go (how long and how slow a fill may
// be), content.go (the room of files: shares of fills, files without a name), ahead.go (reading the body while earlier bytes are written), blob.go (a
// reader of one blob, and its answer to an HTTP request).
package cache
