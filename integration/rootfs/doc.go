// Package rootfs tests where added files land: the root file system that Docker and
// containerd unpack from an augmented image is the one that GNU tar leaves when it
// unpacks the added layers in the base's.
//
// A case is a generated stack of base layers and one to three added layers. The base
// is what the same engine unpacks from the base image, because engines differ in
// corner cases of base images: a directory that a layer does not name has mode 0755
// in Docker, and in containerd the attributes that it has in the layers below. tar
// runs chrooted into the base with the options in tar_test.go; oracle_test.go says what is
// done by hand before. The root directory's own attributes are not compared:
// engines give every container a root directory of their own. Neither are the times
// of directories.
//
// In a quarter of the cases, the base's layers are eStargz, and the server reads their
// tables of contents. In another quarter the server has so small a limits.layers that it
// merges the added layers into one; cases that cannot be merged are replaced.
//
// The flags -cases and -seed give the number of cases and the first seed; case i has
// the seed -seed + i, so that "-cases 1 -seed N" runs one case again. Failing cases are
// shown with entries left out as long as they fail.
//
// Some cases are generated with -gaps only, because they are known to differ: added
// layers that do not name the directories above what is to be made; base directories with the set-group-ID bit;
// entries of a base layer below a link of the same layer, or below what a lower layer has
// as a link or file or hides, without entries for the directories above them; an opaque marker
// beside entries that it does not hide; a directory in place of a link that leads in a
// circle; what a layer both removes and, by another name, makes again. Added layers that have no right result are replaced: a file
// where the same layer needs a directory or has put something, an opaque root, a link
// that waveproxy drops because it would lead to itself, a hard link to what an earlier entry
// has taken away, or to a file that a later
// entry replaces, which waveproxy refuses.
//
// Files: entry_test.go (entries, layers, their listing), forms_test.go (eStargz, zstd:chunked and merging), gaps_test.go (what only -gaps
// generates), generate_test.go and names_test.go (the generator), main_test.go (TestMain), oracle_test.go and
// resolve_test.go (what is done by hand), push_test.go (the base images),
// rootfs_test.go (the property), setup_test.go (registry, server, engines),
// shrink_test.go (smaller cases), tar_test.go (GNU tar in the base), tree_test.go
// (file systems and their differences).
package rootfs
