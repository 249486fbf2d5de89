package registry

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/opencontainers/go-digest"
)

// groupIndex is the index of all images of a repository under a recipe: the first bytes
// of their digests, sorted, and which image has each. The image itself tells whether a
// digest is really its own. It is immutable, but for absent.
type groupIndex struct {
	modified time.Time // of the directory, when it was last read; zero if not all was read
	seen     time.Time // when modified had been seen first
	read     time.Time // when the last look began

	entries []indexEntry
	roots   [][32]byte      // sha256, nearly all
	others  []digest.Digest // other roots, whose ordinals begin at firstOther

	// tooLarge says that the index is not kept, and absent which digests it does not
	// have.
	tooLarge bool
	absent   map[digest.Digest]struct{}
}

type indexEntry struct {
	prefix  uint64
	ordinal uint32 // of the root; with ofRoot if the prefix is the root's own
}

// compare orders entries by prefix, the roots' own first.
func (e indexEntry) compare(other indexEntry) int {
	return cmp.Or(cmp.Compare(e.prefix, other.prefix), cmp.Compare(other.ordinal&ofRoot, e.ordinal&ofRoot))
}

// recordIndex is what the record of an image has: the first bytes of its digests, 8 of
// each.
type recordIndex struct {
	root digest.Digest
	data []byte
}

const (
	firstOther = 1 << 31
	ofRoot     = 1 << 30
	// maxMatches bounds the images that are looked at for one digest. Nearly always the
	// first one has it; the others are for images that cannot be loaded any more.
	maxMatches = 64
	maxAbsent  = 4096
	absentCost = 200
	groupCost  = 400
	nameCost   = 120 // of a record's name while the directory is read
	recordCost = 512 // of an ordinary record's index while it is read
)

// cost is what the index costs in memory, in bytes.
func (g *groupIndex) cost(group string) int64 {
	return groupCost + int64(len(group)) + int64(cap(g.entries))*int64(unsafe.Sizeof(indexEntry{})) +
		int64(cap(g.roots))*32 + int64(len(g.others))*absentCost + int64(len(g.absent))*absentCost
}

// at returns the entries with a prefix.
func (g *groupIndex) at(prefix uint64) []indexEntry {
	i, _ := slices.BinarySearchFunc(g.entries, prefix, func(e indexEntry, p uint64) int { return cmp.Compare(e.prefix, p) })
	n, _ := slices.BinarySearchFunc(g.entries[i:], prefix, func(e indexEntry, p uint64) int {
		if e.prefix <= p {
			return -1
		}
		return 1
	})
	return g.entries[i : i+n]
}

func (g *groupIndex) root(ordinal uint32) digest.Digest {
	ordinal &^= ofRoot
	if ordinal >= firstOther {
		return g.others[ordinal-firstOther]
	}
	return digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(g.roots[ordinal][:]))
}

// match returns the roots of the images that may have the digest, which begins with the
// prefix, the image whose root it is first. There are maxMatches at most.
func (g *groupIndex) match(prefix uint64, d digest.Digest) (roots []digest.Digest) {
	for _, e := range g.at(prefix) {
		root := g.root(e.ordinal)
		if slices.Contains(roots, root) {
			continue
		}
		roots = append(roots, root)
		if root == d {
			roots[0], roots[len(roots)-1] = roots[len(roots)-1], roots[0]
		}
		if len(roots) == maxMatches {
			break
		}
	}
	return roots
}

// has reports whether the index has the record with this name.
func (g *groupIndex) has(name string) bool {
	algorithm, encoded, _ := strings.Cut(name, "-")
	root := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), encoded)
	prefix, ok := prefixOf(root)
	return ok && slices.Contains(g.match(prefix, root), root)
}

// with returns the index with more records.
func (g *groupIndex) with(more []recordIndex) *groupIndex {
	next := *g
	next.roots, next.others = slices.Clip(g.roots), slices.Clip(g.others)
	var added []indexEntry
	for _, r := range more {
		prefix, ok := prefixOf(r.root)
		if !ok {
			continue
		}
		var ordinal uint32
		if sum, err := hex.DecodeString(r.root.Encoded()); err == nil && r.root.Algorithm() == digest.SHA256 && len(sum) == 32 {
			ordinal = uint32(len(next.roots))
			next.roots = append(next.roots, [32]byte(sum))
		} else {
			ordinal = firstOther + uint32(len(next.others))
			next.others = append(next.others, r.root)
		}
		added = append(added, indexEntry{prefix, ordinal | ofRoot}) // has finds it by this one
		for data := r.data; len(data) >= 8; data = data[8:] {
			if p := binary.BigEndian.Uint64(data); p != prefix {
				added = append(added, indexEntry{p, ordinal})
			}
		}
	}
	slices.SortFunc(added, indexEntry.compare)
	next.roots = slices.Clip(next.roots)
	next.entries = make([]indexEntry, 0, len(g.entries)+len(added))
	for old := g.entries; len(old)+len(added) > 0; {
		from := &added
		if len(added) == 0 || len(old) > 0 && old[0].compare(added[0]) <= 0 {
			from = &old
		}
		next.entries = append(next.entries, (*from)[0])
		*from = (*from)[1:]
	}
	return &next
}

// lacks reports whether the digest is known to be in none of the records.
func (g *groupIndex) lacks(d digest.Digest) bool {
	_, ok := g.absent[d]
	return ok
}

// without returns the index that lacks the digest.
func (g *groupIndex) without(d digest.Digest) *groupIndex {
	next := *g
	next.absent = map[digest.Digest]struct{}{d: {}}
	for known := range g.absent {
		if len(next.absent) < maxAbsent {
			next.absent[known] = struct{}{}
		}
	}
	return &next
}
