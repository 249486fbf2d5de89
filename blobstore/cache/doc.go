// Package cache keeps blobs of other registries in a directory: verified,
// bounded in bytes, the least recently used evicted first. However many readers
// ask for a blob that is not there, the upstream is asked once, and each reader
// follows the growing file at its own speed.
//
// The files:
//
//	cache.go  opening a blob: a hit, a fill to follow, or a new one
//	disk.go   the directory: what is in it, room, eviction
//	fill.go   the one download that all readers of a blob follow
//	ahead.go  reading its body while the bytes before are written
//	blob.go   a reader of one blob, and its answer to an HTTP request
//
// What a reader may rely on:
//
//   - The last bytes of a blob that is being filled are held back until all of
//     it has its digest and its size. Only then does anyone reach the end, so a
//     response with the full Content-Length is the right blob. What came before
//     the end was not verified when it was sent: it is what the upstream sent,
//     as without a cache.
//   - A fill belongs to nobody. It goes on when its readers leave, the first of
//     them included, until its body ends or fails. That a body which makes no
//     progress fails is up to the fetch function.
//   - A fill that fails leaves nothing. Readers get its error at the first byte
//     that they cannot have; the next Open starts anew.
//   - When the disk fails instead (it is full, say), readers go on by
//     themselves: each calls its own fetch function at its own offset, and the
//     client notices nothing. These bytes are not verified here. For a while,
//     Open then answers ErrUnavailable for what it does not have.
//
// The bound holds for the files that have a name, unfinished ones included,
// each of which counts as much as its blob will have. An evicted blob that is
// being read keeps its disk space until the last reader has closed it.
//
// A stored blob whose file has another size is dropped and fetched again. Its
// bytes are not read again to be verified, for clients do that. To drop a blob
// by hand, delete its file, while the cache is running or not.
//
// The package must never give a stored blob's name to bytes that do not have
// that digest, nor end a blob early as if it were whole. It must never decide
// who may read what: whoever knows a digest gets the blob, whoever fetched it,
// so callers check first.
package cache
