package layerindex

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"time"
)

// maxTableEntry bounds one entry of a table of contents, in bytes. It is decoded as a
// whole.
const maxTableEntry = 1 << 20

// errEntry says that an entry of a table is too large.
var errEntry = errorf("has a table of contents with an entry of more than %d bytes", maxTableEntry)

// tableEntry is an entry of a table of contents, which eStargz and zstd:chunked write
// alike.
type tableEntry struct {
	Type     string            `json:"type"`
	Name     string            `json:"name"`
	LinkName string            `json:"linkName"`
	Mode     int64             `json:"mode"`
	UID      int               `json:"uid"`
	GID      int               `json:"gid"`
	ModTime  string            `json:"modtime"`
	Xattrs   map[string][]byte `json:"xattrs"`
}

// entryReader fails when an entry is too large.
type entryReader struct {
	r    io.Reader
	left int
	// hold charges bytes. The decoder's buffer keeps the size that the largest entry needs.
	hold func(n int64) error
	held int
}

// entryCost is how many bytes of memory a byte of an entry takes at most: in the decoder's buffer,
// which doubles, in the one that it grows out of, and decoded.
const entryCost = 4

func (e *entryReader) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, errEntry
	}
	if size := maxTableEntry - e.left + len(p); e.left <= maxTableEntry && size > e.held {
		if err := e.hold(entryCost * int64(size-e.held)); err != nil {
			return 0, err
		}
		e.held = size
	}
	n, err := e.r.Read(p[:min(len(p), e.left)])
	e.left -= n
	return n, err
}

// addTable adds the entries of a table of contents.
func (b *builder) addTable(r io.Reader) error {
	in := &entryReader{r: r, left: maxTableEntry, hold: b.hold}
	dec := json.NewDecoder(in)
	if err := expect(dec, json.Delim('{')); err != nil {
		return err
	}
	found := false
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return notTable(err)
		}
		if key != "entries" || found {
			var other json.RawMessage
			if err := dec.Decode(&other); err != nil {
				return notTable(err)
			}
			continue
		}
		found = true
		if err := expect(dec, json.Delim('[')); err != nil {
			return err
		}
		for dec.More() {
			var e tableEntry
			if err := dec.Decode(&e); err != nil {
				return notTable(err)
			}
			in.left = maxTableEntry
			if err := b.addEntry(e); err != nil {
				return err
			}
		}
		if err := expect(dec, json.Delim(']')); err != nil {
			return err
		}
	}
	if !found {
		return errorf("has a table of contents without entries")
	}
	in.left = maxTOC // of white space and what follows, for the digest
	return expect(dec, json.Delim('}'))
}

func expect(dec *json.Decoder, want json.Delim) error {
	if found, err := dec.Token(); err != nil {
		return notTable(err)
	} else if found != want {
		return errorf("has a table of contents of another form: it has %v in place of %v", found, want)
	}
	return nil
}

// notTable returns what is wrong with the JSON of a table. Errors of the reader stay.
func notTable(err error) error {
	var syntax *json.SyntaxError
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &syntax) || errors.As(err, &wrong) {
		return errorf("has a table of contents that is not valid: %v", err)
	}
	return err
}

// addEntry adds an entry of a table of contents.
func (b *builder) addEntry(e tableEntry) error {
	r := row{kind: Other}
	a := attributes{mode: e.Mode, uid: e.UID, gid: e.GID}
	switch e.Type {
	case "chunk": // more of the previous file
		return nil
	case "dir":
		r.kind = Dir
		if t, err := time.Parse(time.RFC3339Nano, e.ModTime); err == nil {
			r.sec, r.nsec = t.Unix(), uint32(t.Nanosecond())
		}
		for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
			a.xattrs = append(a.xattrs, name, string(e.Xattrs[name]))
		}
	case "symlink":
		r.kind, r.target = Link, e.LinkName
	case "hardlink":
		r.target = Clean(e.LinkName)
	}
	return b.add(e.Name, r, a)
}
