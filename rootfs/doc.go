// Package rootfs tells where the entries of added layers land on a base image: where
// GNU tar would put them if it unpacked the layers into the base's root file system,
// with --keep-directory-symlink and --no-overwrite-dir. It knows layers by their
// indexes alone (layerindex), and does no I/O.
//
// Engines do not unpack a layer that way. They take its names literally: an entry below
// a link of a lower layer puts a directory in the link's place, and what the link led to
// is gone. So entries are renamed before engines see them.
//
// Files: stack.go (what the layers of an image have together at a name), placer.go
// (where an entry lands, and what must be written beside it), follow.go (links in the
// names of entries), whiteout.go (removals by added layers),
// find.go (where a name leads), spelling.go (when the order of entries matters),
// labor.go (letting others work meanwhile).
package rootfs
