package augment

import (
	"archive/tar"
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/internal/unpack"
	"github.com/waveproxy/waveproxy/layerindex"
)

// Compression is how a layer archive's bytes are compressed.
type Compression string

const (
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
	None Compression = "none"
)

// Limits bound what reading one archive may cost; a small compressed file can
// hold a very large tar.
type Limits struct {
	Bytes   int64 // of the uncompressed tar, and of its files with their holes filled
	Entries int
	// Packed is how many bytes the archive took on its way here: its own size, or
	// less if it was packed once more. It may unpack to unpack.Ratio times as many.
	// At 0, the bytes read so far count.
	Packed int64
	// Devices lets devices and pipes pass, because images have them, and engines take them.
	Devices bool
}

// maxName is the longest path that Linux accepts, in bytes. maxNested is how
// many directories a path may lead through; each of them costs time when layers
// are merged.
const (
	maxName   = 4095
	maxNested = 255
)

// DefaultLimits accept the largest layers seen in practice.
var DefaultLimits = Limits{Bytes: 16 << 30, Entries: 1_000_000}

// Archive describes a layer archive that Inspect has read. Its Digest and Size
// belong to the bytes as given, whatever their compression.
type Archive struct {
	Layer
	Compression Compression
}

// Inspect reads a layer archive to its end and describes it. It returns an
// *Error if the bytes are not a well-formed tar, plain or compressed with gzip
// or zstd. It also refuses entries that no container engine should be handed:
// names with ".." or that are too long, whiteouts without a name, and device files
// unless limits let them pass.
// Errors of r and ctx are returned wrapped.
//
// The bytes that come out are charged to the context's budget, whose refusals are
// *budget.Exceeded. A processor is taken while r is read, so r must not be waiting
// for the network.
func Inspect(ctx context.Context, r io.Reader, limits Limits) (Archive, error) {
	turn := unpack.New(ctx)
	src := turn.Inside(r)
	found := Archive{}
	compressed := digest.Canonical.Digester()
	plain := digest.Canonical.Digester()
	err := func() error {
		in := bufio.NewReaderSize(io.TeeReader(src, compressed.Hash()), magicSize)
		packed := func() int64 { return cmp.Or(limits.Packed, src.Bytes()) }
		out, compression, err := decompress(turn, in, packed)
		if err != nil {
			return err
		}
		defer out.Close()
		found.Compression = compression
		bounded := &boundedReader{r: out, left: limits.Bytes}
		tarBytes := io.TeeReader(bounded, plain.Hash())
		err = checkEntries(turn, tarBytes, limits)
		if errors.Is(err, errNoEntry) && compression == None {
			return Errorf("layer is not a tar archive, plain or compressed with gzip or zstd")
		}
		if err != nil {
			return err
		}
		// The digest covers the padding after the last entry, too.
		if _, err := io.Copy(io.Discard, tarBytes); err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, in)
		return err
	}()
	switch {
	case src.Err() != nil:
		return Archive{}, fmt.Errorf("read layer: %w", src.Err())
	case err != nil:
		return Archive{}, asRefusal("layer", err)
	}
	found.Digest, found.Size, found.DiffID = compressed.Digest(), src.Bytes(), plain.Digest()
	return found, nil
}

// asRefusal turns a decoder's complaint about the bytes into an *Error.
func asRefusal(what string, err error) error {
	if refusal, ok := errors.AsType[*Error](err); ok {
		return refusal
	}
	if _, ok := errors.AsType[*budget.Exceeded](err); ok || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("unpack %s: %w", what, err)
	}
	if errors.Is(err, unpack.ErrRatio) {
		return Errorf("%s is refused: %v", what, err)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return Errorf("%s is cut off: the archive ends too early", what)
	}
	return Errorf("%s is not a valid tar archive: %v", what, err)
}

// errNoEntry says that not even the first entry of an archive can be read. Most
// often the bytes are no archive at all.
var errNoEntry = errors.New("no entry")

func checkEntries(turn *unpack.Turn, r io.Reader, limits Limits) error {
	in := &countingReader{r: r}
	entries := tar.NewReader(in)
	files := turn.Files(entries, in.count, nil)
	headers := turn.Headers()
	defer headers.Release()
	left := limits.Bytes
	for n := 0; ; n++ {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && n == 0 {
			return fmt.Errorf("%w: %w", errNoEntry, err)
		}
		if err != nil {
			return err
		}
		if n >= limits.Entries {
			return Errorf("layer has more than %d entries", limits.Entries)
		}
		if h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeGNUSparse {
			left -= h.Size // a sparse file of kilobytes unpacks to any size
		}
		if left < 0 {
			return errTooLarge
		}
		if err := checkEntry(h, limits.Devices); err != nil {
			return err
		}
		if err := headers.Hold(h); err != nil {
			return err
		}
		// Whether a sparse file is whole shows only here.
		if _, err := io.Copy(io.Discard, files); err != nil {
			return err
		}
	}
}

func checkEntry(h *tar.Header, devices bool) error {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeXGlobalHeader, tar.TypeGNUSparse:
	case tar.TypeLink:
		if err := checkName(h.Linkname); err != nil {
			return fmt.Errorf("hard link %q: %w", h.Name, err)
		}
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		if !devices {
			return Errorf("layer entry %q is a device or pipe, which may not be injected", h.Name)
		}
	default:
		return Errorf("layer entry %q has the unknown type %q", h.Name, h.Typeflag)
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name := layerindex.Clean(h.Name)
	switch path.Base(name) {
	case whiteout, whiteout + ".", whiteout + "..":
		return Errorf("layer entry %q is a whiteout without a name", h.Name)
	}
	if name == "." && h.Typeflag != tar.TypeDir {
		return Errorf("layer entry %q names the root but is not a directory", h.Name)
	}
	return checkName(h.Name)
}

// checkName returns an *Error if an archive must not have the name. Slashes around it and
// "." elements are no fault: engines take every name relative to the image's root.
func checkName(name string) error {
	switch {
	case name == "" || strings.ContainsRune(name, 0):
		return Errorf("layer entry %q has no valid name", name)
	case slices.Contains(strings.Split(name, "/"), ".."):
		return Errorf("layer entry %q contains \"..\"", name)
	case len(name) > maxName:
		return Errorf("layer entry %.100q... has a name of %d bytes; Linux takes %d", name, len(name), maxName)
	case strings.Count(layerindex.Clean(name), "/") > maxNested:
		return Errorf("layer entry %.100q... is below more than %d directories", name, maxNested)
	}
	return nil
}
