package rootfs

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/integration/engine"
)

// merges reports whether the server of the case merges the added layers into one.
func (s stack) merges() bool { return s.Seed%4 == 1 && len(s.Added) > 1 }

// hasTables reports whether the base's layers are eStargz, so that the server reads their
// tables of contents in the place of the layers.
func (s stack) hasTables() bool { return s.Seed%4 == 2 }

// packBase returns the base's layers as the registry gets them.
func (s stack) packBase() ([]packed, error) {
	form := layer.pack
	switch {
	case s.Chunked:
		form = layer.chunked
	case s.hasTables():
		form = layer.estargz
	}
	var list []packed
	for _, l := range s.Base {
		p, err := form(l)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

// tocEntry is a line of an eStargz table of contents.
type tocEntry struct {
	Name     string            `json:"name"`
	Type     string            `json:"type"`
	Size     int               `json:"size,omitempty"`
	ModTime  string            `json:"modtime"`
	LinkName string            `json:"linkName,omitempty"`
	Mode     int64             `json:"mode"`
	UID      int               `json:"uid"`
	GID      int               `json:"gid"`
	Xattrs   map[string][]byte `json:"xattrs,omitempty"`
}

// tocTypes are the names of kinds in a table of contents.
var tocTypes = map[byte]string{tar.TypeReg: "reg", tar.TypeDir: "dir", tar.TypeSymlink: "symlink", tar.TypeLink: "hardlink"}

func (l layer) table() ([]byte, error) {
	var entries []tocEntry
	for _, e := range l {
		t := tocEntry{Name: strings.TrimPrefix(e.Name, "./"), Type: tocTypes[e.Kind], Size: len(e.Text), ModTime: "2023-11-14T22:13:20Z", LinkName: e.Link, Mode: e.Mode, UID: e.UID, GID: e.GID}
		for k, v := range e.Xattrs {
			if t.Xattrs == nil {
				t.Xattrs = map[string][]byte{}
			}
			t.Xattrs[k] = []byte(v)
		}
		entries = append(entries, t)
	}
	return json.Marshal(map[string]any{"version": 1, "entries": entries})
}

// estargz packs the layer with a table of contents, and a footer that says where it is.
func (l layer) estargz() (packed, error) {
	archive, err := l.archive()
	if err != nil {
		return packed{}, err
	}
	table, err := l.table()
	if err != nil {
		return packed{}, err
	}
	const end = 1024 // zeros after the last entry
	archive = archive[:len(archive)-end]
	var last bytes.Buffer
	w := tar.NewWriter(&last)
	if err := w.WriteHeader(&tar.Header{Name: "stargz.index.json", Typeflag: tar.TypeReg, Size: int64(len(table))}); err != nil {
		return packed{}, err
	}
	if _, err := w.Write(table); err != nil {
		return packed{}, err
	}
	if err := w.Close(); err != nil {
		return packed{}, err
	}
	var blob bytes.Buffer
	member := func(data, extra []byte) error {
		level := gzip.BestSpeed
		if extra != nil {
			level = gzip.NoCompression
		}
		z, err := gzip.NewWriterLevel(&blob, level)
		if err != nil {
			return err
		}
		z.Extra = extra
		if data != nil {
			if _, err := z.Write(data); err != nil {
				return err
			}
		}
		return z.Close()
	}
	if err := member(archive, nil); err != nil {
		return packed{}, err
	}
	at := blob.Len()
	if err := member(last.Bytes(), nil); err != nil {
		return packed{}, err
	}
	if err := member(nil, fmt.Appendf([]byte("SG\x16\x00"), "%016xSTARGZ", at)); err != nil {
		return packed{}, err
	}
	return packed{
		blob: blob.Bytes(), digest: sum(blob.Bytes()), diffID: sum(append(archive, last.Bytes()...)),
		annotations: map[string]string{"containerd.io/snapshot/stargz/toc.digest": digest.FromBytes(table).String()},
	}, nil
}

// chunked packs the layer as zstd:chunked: with a table of contents in a frame that
// unpackers skip.
func (l layer) chunked() (packed, error) {
	archive, err := l.archive()
	if err != nil {
		return packed{}, err
	}
	table, err := l.table()
	if err != nil {
		return packed{}, err
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		return packed{}, err
	}
	blob, manifest := z.EncodeAll(archive, nil), z.EncodeAll(table, nil)
	skipped := func(data []byte) {
		blob = append(binary.LittleEndian.AppendUint32(append(blob, "\x50\x2a\x4d\x18"...), uint32(len(data))), data...)
	}
	at := len(blob) + 8
	skipped(manifest)
	skipped(make([]byte, 64)) // the footer, which repeats the annotation
	return packed{
		blob: blob, digest: sum(blob), diffID: sum(archive), mediaType: ocispec.MediaTypeImageLayerZstd,
		annotations: map[string]string{
			"io.github.containers.zstd-chunked.manifest-checksum": sum(manifest),
			"io.github.containers.zstd-chunked.manifest-position": fmt.Sprintf("%d:%d:%d:1", at, len(manifest), len(table)),
		},
	}, z.Close()
}

// TestChunked: added files land in a base of zstd:chunked as in any other one, in both
// releases of containerd. Docker before 23 does not take zstd.
func TestChunked(t *testing.T) {
	for _, release := range engine.Releases {
		t.Run("containerd "+release, func(t *testing.T) {
			node, ok := engine.StartNode(t, release)
			if !ok {
				return
			}
			b := benchOf(t, node)
			for i := range uint64(15) {
				s := generate(4*i, 0) // neither merged nor eStargz
				s.Chunked = true
				problems, err := b.run(t.Context(), s)
				if err != nil && !errors.Is(err, errUndecided) && !errors.Is(err, errBase) {
					t.Fatal(err)
				}
				if len(problems) > 0 {
					t.Errorf("%s%s", s, strings.Join(problems, "\n"))
				}
			}
			if n := b.seen.compared.Load(); n < 10 {
				t.Errorf("only %d images are compared", n)
			}
		})
	}
}

// checkMerged returns an error unless the target image has one layer more than the base.
func (b *bench) checkMerged(ctx context.Context, s stack, target string) error {
	_, name, _ := strings.Cut(target, "/")
	repository, digest, _ := strings.Cut(name, "@")
	resp, err := b.merging[len(s.Base)].Call(ctx, http.MethodGet, "/v2/"+repository+"/manifests/"+digest, "", "Accept", ocispec.MediaTypeImageManifest)
	if err != nil {
		return err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal([]byte(resp.Body), &m); err != nil || len(m.Layers) != len(s.Base)+1 {
		return fmt.Errorf("merged layers: status %d, %v, %s", resp.Status, err, resp.Body)
	}
	b.seen.merged.Add(1)
	return nil
}

// forms names what is unusual about a case, for its listing.
func (s stack) forms() string {
	switch {
	case s.Chunked:
		return "the base's layers are zstd:chunked\n"
	case s.merges():
		return "the added layers are merged\n"
	case s.hasTables():
		return "the base's layers are eStargz\n"
	}
	return ""
}
