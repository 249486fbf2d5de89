package layerindex

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/internal/unpack"
)

// The annotations of descriptors of layers that have a table of contents.
const (
	tocDigest        = "containerd.io/snapshot/stargz/toc.digest"
	manifestChecksum = "io.github.containers.zstd-chunked.manifest-checksum"
	manifestPosition = "io.github.containers.zstd-chunked.manifest-position"
)

// maxTOC is the largest table of contents that is read, compressed, in bytes. One of 300,000
// files has 20 MiB.
const maxTOC = 64 << 20

// TOC is a layer's table of contents, as a descriptor claims it.
type TOC struct {
	// Digest is what the table must have: of the compressed bytes for zstd:chunked, of the
	// JSON for eStargz.
	Digest digest.Digest

	size           int64 // of the layer
	offset, length int64 // of zstd:chunked; length 0 is eStargz
}

// Span opens a part of a layer.
type Span func(ctx context.Context, offset, length int64) (io.ReadCloser, error)

// TOCOf returns the table of contents that a layer's descriptor claims to have; ok is
// false if it claims none that can be read.
func TOCOf(d ocispec.Descriptor) (toc TOC, ok bool) {
	if d.Size <= 0 {
		return TOC{}, false
	}
	toc.size = d.Size
	if toc.Digest = digest.Digest(d.Annotations[manifestChecksum]); isSHA256(toc.Digest) {
		// offset:length:uncompressed length:type
		at := strings.Split(d.Annotations[manifestPosition], ":")
		if len(at) == 4 && at[3] == "1" {
			offset, err := strconv.ParseInt(at[0], 10, 64)
			length, lengthErr := strconv.ParseInt(at[1], 10, 64)
			if err == nil && lengthErr == nil && offset >= 0 && length > 0 && length <= maxTOC && offset <= d.Size-length {
				toc.offset, toc.length = offset, length
				return toc, true
			}
		}
	}
	toc.Digest = digest.Digest(d.Annotations[tocDigest])
	return toc, isSHA256(toc.Digest) && d.Size > footerSize
}

func isSHA256(d digest.Digest) bool { return d.Validate() == nil && d.Algorithm() == digest.SHA256 }

// Read reads the table with ranges of the layer, verifies it, and returns the index of the
// layer. What it costs is charged as in Read. Errors are *Error if there is no table with
// the digest, or one over a bound, *budget.Exceeded, the context's, and those of span and
// its bodies.
func (t TOC) Read(ctx context.Context, span Span) (*Index, error) {
	offset, length := t.offset, t.length
	if length == 0 {
		var err error
		if offset, length, err = t.locate(ctx, span); err != nil {
			return nil, err
		}
	}
	body, err := span(ctx, offset, length)
	if err != nil {
		return nil, fmt.Errorf("read table of contents: %w", err)
	}
	defer body.Close()
	turn := unpack.New(ctx)
	src := turn.Outside(body)
	x, err := t.parse(ctx, turn, src)
	if err != nil {
		return nil, explain(src, err)
	}
	return x, nil
}

// parse reads the table from its compressed bytes.
func (t TOC) parse(ctx context.Context, turn *unpack.Turn, src io.Reader) (*Index, error) {
	sum := sha256.New()
	packed := src
	if t.length > 0 { // zstd:chunked
		packed = io.TeeReader(src, sum)
	}
	in := bufio.NewReaderSize(packed, 64<<10)
	out, err := decompress(turn, in)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	var table io.Reader = out
	if t.length == 0 {
		entries := tar.NewReader(out)
		h, err := entries.Next()
		if err != nil || h.Name != tocName {
			return nil, errorf("has no table of contents where its end says")
		}
		table = io.TeeReader(entries, sum)
	}
	b, err := newBuilder(ctx)
	defer b.release()
	if err != nil {
		return nil, err
	}
	if err := b.addTable(table); err != nil {
		return nil, err
	}
	// The rest counts for the digest.
	for _, r := range []io.Reader{table, out, in} {
		if _, err := io.Copy(io.Discard, r); err != nil {
			return nil, err
		}
	}
	if err := t.verify(sum); err != nil {
		return nil, err
	}
	return b.finish()
}

func (t TOC) verify(sum hash.Hash) error {
	if found := digest.NewDigest(digest.SHA256, sum); found != t.Digest {
		return errorf("has a table of contents with the digest %s, but its annotation says %s", found, t.Digest)
	}
	return nil
}

// An eStargz layer ends with an empty gzip stream, whose extra field says where the
// table is. Layers of the older stargz have a shorter one.
const (
	footerSize = 51
	oldFooter  = 47
	tocName    = "stargz.index.json"
)

// locate finds the table of an eStargz layer.
func (t TOC) locate(ctx context.Context, span Span) (offset, length int64, err error) {
	body, err := span(ctx, t.size-footerSize, footerSize)
	if err != nil {
		return 0, 0, fmt.Errorf("read footer: %w", err)
	}
	defer body.Close()
	footer := make([]byte, footerSize)
	if _, err := io.ReadFull(body, footer); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, 0, errorf("is cut off before its footer")
		}
		return 0, 0, fmt.Errorf("read footer: %w", err)
	}
	for _, size := range []int{footerSize, oldFooter} {
		at, ok := parseFooter(footer[footerSize-size:])
		if length = t.size - int64(size) - at; ok && at >= 0 && length > 0 && length <= maxTOC {
			return at, length, nil
		}
	}
	return 0, 0, errorf("has no footer of eStargz")
}

// parseFooter returns the offset in the extra field of an empty gzip stream.
func parseFooter(footer []byte) (offset int64, ok bool) {
	z, err := gzip.NewReader(bytes.NewReader(footer))
	if err != nil {
		return 0, false
	}
	extra := z.Extra
	if len(footer) == footerSize {
		// A subfield with the name SG and its length.
		if !bytes.HasPrefix(extra, []byte("SG\x16\x00")) {
			return 0, false
		}
		extra = extra[4:]
	}
	hex, ok := bytes.CutSuffix(extra, []byte("STARGZ"))
	if !ok || len(hex) != 16 {
		return 0, false
	}
	offset, err = strconv.ParseInt(string(hex), 16, 64)
	return offset, err == nil
}
