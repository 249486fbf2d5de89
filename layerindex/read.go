package layerindex

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/internal/unpack"
)

// Read reads a layer to its end, a tar archive that is plain or compressed with gzip, zstd or bzip2,
// and returns its index. r may wait for the network: no processor is held
// meanwhile. What r yields is not verified.
//
// The bytes that come out and the memory are charged to the context's budget; the memory is
// given back before Read returns. Errors are *Error if this is no layer or one over a
// bound, *budget.Exceeded, the context's, and those of r.
func Read(ctx context.Context, r io.Reader) (*Index, error) {
	turn := unpack.New(ctx)
	src := turn.Outside(r)
	in := bufio.NewReaderSize(src, 64<<10)
	x, err := readTar(ctx, turn, in)
	if err == nil {
		// The end of the archive need not be that of the layer.
		_, err = io.Copy(io.Discard, in)
	}
	if err != nil {
		return nil, explain(src, err)
	}
	return x, nil
}

// explain tells errors of the source, and refusals, from complaints about the bytes.
func explain(src *unpack.Source, err error) error {
	if src.Err() != nil {
		return fmt.Errorf("read: %w", src.Err())
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	if _, ok := errors.AsType[*budget.Exceeded](err); ok || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("unpack: %w", err)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return errorf("is cut off: the archive ends too early")
	}
	return errorf("is not a valid archive: %v", err)
}

// readTar returns the index of an archive. It holds the turn meanwhile.
func readTar(ctx context.Context, turn *unpack.Turn, in *bufio.Reader) (*Index, error) {
	out, err := decompress(turn, in)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	b, err := newBuilder(ctx)
	defer b.release()
	if err != nil {
		return nil, err
	}
	entries := tar.NewReader(out)
	headers := turn.Headers()
	defer headers.Release()
	for {
		h, err := entries.Next()
		switch {
		case errors.Is(err, io.EOF):
			return b.finish()
		case errors.Is(err, tar.ErrHeader) && b.order == 0:
			return nil, errorf("is not a tar archive, plain or compressed with gzip, zstd or bzip2")
		case err != nil:
			return nil, err
		case h.Typeflag == tar.TypeXGlobalHeader: // about the archive, and no entry
			continue
		}
		if err := headers.Hold(h); err != nil {
			return nil, err
		}
		if err := b.add(h.Name, rowOf(h), attributesOf(h)); err != nil {
			return nil, err
		}
	}
}

func rowOf(h *tar.Header) row {
	r := row{kind: Other, sec: h.ModTime.Unix(), nsec: uint32(h.ModTime.Nanosecond())}
	switch h.Typeflag {
	case tar.TypeDir:
		r.kind = Dir
	case tar.TypeSymlink:
		r.kind, r.target = Link, h.Linkname
	case tar.TypeLink:
		r.target = Clean(h.Linkname)
	}
	return r
}

const xattrPrefix = "SCHILY.xattr."

func attributesOf(h *tar.Header) attributes {
	a := attributes{mode: h.Mode, uid: h.Uid, gid: h.Gid}
	for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
		if name, ok := strings.CutPrefix(key, xattrPrefix); ok {
			a.xattrs = append(a.xattrs, name, h.PAXRecords[key])
		}
	}
	return a
}
