package rootfs

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/waveproxy/waveproxy/integration/harness"
)

// entry is one member of a layer.
type entry struct {
	Name     string // as the archive has it
	Kind     byte   // tar.TypeReg for whiteouts, too
	Mode     int64
	UID, GID int
	Link     string // a link's target
	Text     string
	Xattrs   map[string]string
}

const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"
)

// clean returns the name without "./", doubled and trailing slashes.
func (e entry) clean() string { return path.Clean(e.Name) }

// hides returns the name that a whiteout hides: a directory's for an opaque marker,
// whose own entries stay.
func (e entry) hides() (name string, opaque, ok bool) {
	dir, base := path.Split(e.clean())
	hidden, ok := strings.CutPrefix(base, whiteoutPrefix)
	switch {
	case !ok:
		return "", false, false
	case base == opaqueName:
		return path.Clean(dir), true, true
	}
	return dir + hidden, false, true
}

// String is the entry's line in a listing.
func (e entry) String() string {
	var b strings.Builder
	switch e.Kind {
	case tar.TypeDir:
		fmt.Fprintf(&b, "dir   %s", e.Name)
	case tar.TypeSymlink:
		fmt.Fprintf(&b, "link  %s -> %s", e.Name, e.Link)
	case tar.TypeLink:
		return fmt.Sprintf("hard  %s = %s", e.Name, e.Link)
	default:
		fmt.Fprintf(&b, "file  %s", e.Name)
	}
	usual := map[byte]int64{tar.TypeDir: 0o755, tar.TypeSymlink: 0o777, tar.TypeReg: 0o644}
	if e.Mode != usual[e.Kind] {
		fmt.Fprintf(&b, " %04o", e.Mode)
	}
	if e.UID != 0 || e.GID != 0 {
		fmt.Fprintf(&b, " %d:%d", e.UID, e.GID)
	}
	for _, k := range slices.Sorted(maps.Keys(e.Xattrs)) {
		fmt.Fprintf(&b, " %s=%q", k, e.Xattrs[k])
	}
	return b.String()
}

func (e entry) header() *tar.Header {
	h := &tar.Header{
		Typeflag: e.Kind, Name: e.Name, Mode: e.Mode, Uid: e.UID, Gid: e.GID, Linkname: e.Link, Size: int64(len(e.Text)),
		ModTime: time.Unix(1_700_000_000, 0), Format: tar.FormatPAX,
	}
	if len(e.Xattrs) > 0 {
		h.PAXRecords = map[string]string{}
		for k, v := range e.Xattrs {
			h.PAXRecords["SCHILY.xattr."+k] = v
		}
	}
	return h
}

// layer is a layer's members in their order.
type layer []entry

// archive returns the layer as a tar archive.
func (l layer) archive() ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range l {
		if err := w.WriteHeader(e.header()); err != nil {
			return nil, fmt.Errorf("pack %s: %w", e, err)
		}
		if _, err := w.Write([]byte(e.Text)); err != nil {
			return nil, fmt.Errorf("pack %s: %w", e, err)
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

// packed is a layer as it travels.
type packed struct {
	blob           []byte // compressed
	digest, diffID string
	mediaType      string            // "": of a tar with gzip
	annotations    map[string]string // of its descriptor
}

func (l layer) pack() (packed, error) {
	archive, err := l.archive()
	if err != nil {
		return packed{}, err
	}
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		return packed{}, err
	}
	if _, err := z.Write(archive); err != nil {
		return packed{}, err
	}
	if err := z.Close(); err != nil {
		return packed{}, err
	}
	return packed{blob: b.Bytes(), digest: sum(b.Bytes()), diffID: sum(archive)}, nil
}

// request returns the layer as clients send it.
func (p packed) request() harness.Layer {
	return harness.Layer{
		Location:   "data:" + base64.StdEncoding.EncodeToString(p.blob),
		GzipDigest: p.digest, GzipSize: len(p.blob), TarDigest: p.diffID,
	}
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(s[:])
}

// stack is a case: the layers of a base image and the layers to add.
type stack struct {
	Seed        uint64
	Base, Added []layer
	Chunked     bool // the base's layers are zstd:chunked
}

// String lists the layers, so that a person can see what a case is.
func (s stack) String() string {
	var b strings.Builder
	b.WriteString(s.forms())
	list := func(what string, layers []layer) {
		for i, l := range layers {
			fmt.Fprintf(&b, "%s layer %d\n", what, i+1)
			for _, e := range l {
				fmt.Fprintf(&b, "  %s\n", e)
			}
		}
	}
	list("base", s.Base)
	list("added", s.Added)
	return b.String()
}
