// Package layerindex tells what one layer does to a file system, without the bytes of
// its files: which names it has, what hides the names of layers below it, where its
// links lead, and what its directories are like.
//
// Read takes an index from a layer's archive. Layers are read as engines read them:
// names are cleaned instead of refused, and what follows the archive is ignored. An
// archive that has a table of contents of its own (eStargz, zstd:chunked) need not be
// read; TOC reads the table with ranges of the layer, and verifies it.
//
// An Index is compact: a name costs the bytes in which it differs from the one before
// it, so that the index of a layer of 100,000 files has about two megabytes. Encode
// makes a record of it that shows whether it was damaged.
//
// Files: index.go (Index and its questions), table.go (sorted names), names.go (what a
// name in an archive means), build.go (from entries in any order to sorted ones), merge.go
// (which of them count), read.go (archives), file.go (bytes of single files), decompress.go (their compressions), toc.go
// (archives that have tables of contents), entries.go (the entries of such a table),
// record.go (Encode, Decode), errors.go (Error).
package layerindex
