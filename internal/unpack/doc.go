// Package unpack bounds what unpacking archives costs, whatever their compression.
//
// Turn lets as many archives be unpacked at a time as there are processors, and
// half as many of one client. Clients take turns, and one that has had the
// processor for a while lets the others have theirs: a layer of kilobytes that
// unpacks to gigabytes delays a small one by a moment. No turn is held while the
// network is waited for.
//
// A Reader charges the budget of the request with the bytes that come out, and ends
// streams that unpack to far more than they are. Files does both for the holes of
// sparse files, which are in no stream.
//
// Files: turn.go (Turn), reader.go (Reader), source.go (Source), gzip.go (streams that engines take), holes.go (Files), headers.go (Headers), window.go (Windows:
// memory of zstd decoders), document.go (InTurn).
package unpack
