package unpack

import (
	"archive/tar"
	"strings"
)

const (
	// mapCost is what the map of a sparse file takes at most, in bytes: archive/tar reads
	// 1 MiB of it, in which an empty piece has 4 bytes, and keeps 16 for each.
	mapCost = 4 << 20
	// recordCost is what a record of an extended header takes beside its text: a Go map
	// that has just grown is half empty.
	recordCost = 128
	// freeHeader is not charged. Nearly all headers have less.
	freeHeader = 16 << 10
)

// Headers charges what the header of an entry keeps in memory while the file behind it
// is read: a few kilobytes of a packed archive can become megabytes of headers. One
// goroutine uses it.
type Headers struct {
	turn    *Turn
	release func() // nil if nothing is held
}

// Headers returns the Headers of an archive, which must be released.
func (t *Turn) Headers() *Headers { return &Headers{turn: t} }

// Hold charges the header in place of the previous one. An error is *budget.Exceeded.
func (h *Headers) Hold(header *tar.Header) (err error) {
	h.Release()
	if cost := headerCost(header); cost > freeHeader {
		h.release, err = h.turn.Hold(cost)
	}
	return err
}

// Release gives back what is held.
func (h *Headers) Release() {
	if h.release != nil {
		h.release()
		h.release = nil
	}
}

func headerCost(h *tar.Header) int64 {
	cost := int64(len(h.Name) + len(h.Linkname))
	sparse := h.Typeflag == tar.TypeGNUSparse
	for key, value := range h.PAXRecords {
		// The records are parts of one text, which stays as long as one of them does.
		cost += int64(len(key)+len(value)) + recordCost
		sparse = sparse || strings.HasPrefix(key, "GNU.sparse.")
	}
	if sparse {
		cost += mapCost
	}
	return cost
}
