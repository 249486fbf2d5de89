package augment

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/internal/unpack"
)

// Archives keeps the bytes of injected layers. blobstore.Store is one.
type Archives interface {
	Open(ctx context.Context, d digest.Digest) (io.ReadSeekCloser, error)
	Put(ctx context.Context, d digest.Digest, r io.Reader) error
	// Verify returns nil if the archive is kept with the bytes of its digest.
	Verify(ctx context.Context, d digest.Digest) error
}

const (
	whiteout       = ".wh."
	whiteoutOpaque = ".wh..wh..opq"

	// maxHoles bounds the bytes of holes in sparse files of layers that are rewritten or
	// merged, because the result has them as zeros: a few bytes would become gigabytes.
	maxHoles = 64 << 20
)

// repack stores one archive made of the layers of a placing, later ones over earlier
// ones, and returns it as a Layer. The result depends on nothing but the layers and where
// their entries land.
func repack(ctx context.Context, from *placing) (Layer, error) {
	plan, err := planRepack(ctx, from)
	if err != nil {
		return Layer{}, err
	}
	defer plan.overlay.Release()
	return putArchive(ctx, from.archives, plan.write)
}

// Keep stores a layer that Inspect has passed and returns it as it will stand
// in manifests. Whatever its compression, it is kept as gzip: the one form that
// every engine in use unpacks. r is read from its start.
func Keep(ctx context.Context, archives Archives, r io.ReadSeeker, found Archive) (Layer, error) {
	if found.Compression == Gzip {
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			return Layer{}, fmt.Errorf("read layer: %w", err)
		}
		if err := archives.Put(ctx, found.Digest, r); err != nil {
			return Layer{}, fmt.Errorf("store layer: %w", err)
		}
		return found.Layer, nil
	}
	return putArchive(ctx, archives, func(ctx context.Context, compressed, plain io.Writer) error {
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("read layer: %w", err)
		}
		in, err := unpackFrom(unpack.New(ctx), r)
		if err != nil {
			return fmt.Errorf("read layer: %w", err)
		}
		defer in.Close()
		z := gzip.NewWriter(compressed)
		if _, err := io.Copy(io.MultiWriter(z, plain), in); err != nil {
			return fmt.Errorf("compress layer: %w", err)
		}
		return z.Close()
	})
}

// putArchive stores the archive that produce writes, and returns it as a Layer. It
// calls produce twice, the first time only to learn the digest. That needs no
// memory and no temporary file, but produce must write the same bytes each time. The
// second call comes when the archives read the first byte: until then they may verify
// an archive that they have, and that must not wait for the turn of the producer.
func putArchive(ctx context.Context, archives Archives, produce func(ctx context.Context, compressed, plain io.Writer) error) (Layer, error) {
	compressed, plain := digest.Canonical.Digester(), digest.Canonical.Digester()
	counted := &countingWriter{w: compressed.Hash()}
	if err := produce(ctx, counted, plain.Hash()); err != nil {
		return Layer{}, err
	}
	l := Layer{Digest: compressed.Digest(), Size: counted.n, DiffID: plain.Digest()}
	pr, pw := io.Pipe()
	var producer sync.WaitGroup
	err := archives.Put(ctx, l.Digest, &begun{Reader: pr, begin: func() {
		producer.Go(func() { pw.CloseWithError(produce(ctx, pw, io.Discard)) })
	}})
	pr.Close() // ends produce when Put stopped early
	producer.Wait()
	if err != nil {
		return Layer{}, fmt.Errorf("store layer: %w", err)
	}
	return l, nil
}

// begun calls begin before its first read.
type begun struct {
	io.Reader
	begin func() // nil once it was called
}

func (b *begun) Read(p []byte) (int, error) {
	if b.begin != nil {
		b.begin()
		b.begin = nil
	}
	return b.Reader.Read(p)
}

// repackPlan holds which entries of which layers go into the result.
type repackPlan struct {
	from    *placing
	overlay *overlay
	limit   int64 // of the result, in bytes of the plain tar
	holes   int64 // bytes of holes that may be filled
}

// position identifies an entry by the index of its layer and its index there.
type position struct{ layer, entry int }

func (p position) compare(q position) int {
	return cmp.Or(cmp.Compare(p.layer, q.layer), cmp.Compare(p.entry, q.entry))
}

// planRepack returns the plan, whose overlay must be dropped.
func planRepack(ctx context.Context, from *placing) (*repackPlan, error) {
	o := newOverlay(ctx)
	err := from.pass(ctx, nil, func(at position, h *tar.Header, _ io.Reader) error { return o.place(h, at) })
	if err != nil {
		o.Release()
		return nil, err
	}
	return &repackPlan{from: from, overlay: o, limit: DefaultLimits.Bytes, holes: maxHoles}, nil
}

// write produces the archive: gzip to compressed, the plain tar to plain. An *Error
// says that it would be larger than a layer may be, or full of holes.
func (p *repackPlan) write(ctx context.Context, compressed, plain io.Writer) error {
	z := gzip.NewWriter(compressed)
	out := tar.NewWriter(&boundedWriter{w: io.MultiWriter(z, plain), left: p.limit})
	holes := p.holes
	err := p.from.pass(ctx, &holes, func(at position, h *tar.Header, body io.Reader) error {
		if counts, err := p.overlay.counts(h, at); !counts {
			return err
		}
		return writeEntry(out, p.overlay.header(h, at), body)
	})
	if err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("repack: %w", err)
	}
	return z.Close()
}

// writeEntry writes one entry. An *Error says that it cannot be written.
func writeEntry(out *tar.Writer, h *tar.Header, body io.Reader) error {
	h.Format = tar.FormatUnknown // the moved name may need another format
	if h.Typeflag == tar.TypeGNUSparse {
		h.Typeflag = tar.TypeReg
	}
	if h.Typeflag == tar.TypeDir {
		h.Name += "/"
	}
	if err := out.WriteHeader(h); err != nil {
		// The header is at fault, not the writer: the first pass only computes digests.
		return Errorf("layer entry %q cannot be rewritten: %v", h.Name, err)
	}
	if _, err := io.Copy(out, body); errors.Is(err, unpack.ErrHoles) {
		return Errorf("layers cannot be rewritten: the holes of their sparse files, such as %.100q, have more than %d bytes", h.Name, maxHoles)
	} else if err != nil {
		return fmt.Errorf("repack %q: %w", h.Name, err)
	}
	return nil
}

// boundedWriter fails with an *Error instead of passing more than left bytes to w.
type boundedWriter struct {
	w    io.Writer
	left int64
}

func (b *boundedWriter) Write(p []byte) (int, error) {
	if b.left -= int64(len(p)); b.left < 0 {
		return 0, Errorf("layers cannot be merged: together they unpack to more than one layer may")
	}
	return b.w.Write(p)
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
