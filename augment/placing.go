package augment

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/waveproxy/waveproxy/internal/unpack"
	"github.com/waveproxy/waveproxy/layerindex"
	"github.com/waveproxy/waveproxy/rootfs"
)

// xattrPrefix is what the PAX records of extended attributes begin with.
const xattrPrefix = "SCHILY.xattr."

// placing reads layers that become one archive, with each entry where it lands on the
// base. Every pass gives the same entries.
type placing struct {
	archives Archives
	layers   []Layer
	indexes  []*layerindex.Index // of the layers
	placer   *rootfs.Placer      // nil: names stay as they are, and there are no indexes
	ordered  []bool              // layers whose entries are read in their order
	memory   heldMemory
	claimed  atomic.Bool
	begunNew bool // the first pass has begun anew because of the order of entries
}

// placeOn returns the placing of layers over a base; with a nil base, all names stay.
// end must be called in the end.
func placeOn(ctx context.Context, archives Archives, base *rootfs.Stack, layers []Layer, indexes []*layerindex.Index) *placing {
	p := &placing{archives: archives, layers: layers, indexes: indexes, memory: holdMemory(ctx)}
	if base != nil {
		p.placer = rootfs.NewPlacer(base)
		for _, x := range indexes {
			p.ordered = append(p.ordered, !x.Simple())
		}
	}
	return p
}

// claim reports whether the caller is the first one, and so the last user of the placing:
// the run that repacks, which may go on when its caller has left, or end.
func (p *placing) claim() bool { return p.claimed.CompareAndSwap(false, true) }

// end gives back the memory, unless a run goes on with the placing.
func (p *placing) end() {
	if p.claim() {
		p.memory.Release()
	}
}

// learn is the first pass. It opens no archive whose index tells enough. It reports
// whether the archives must be written anew, and returns what that depends on beside
// the archives' bytes.
func (p *placing) learn(ctx context.Context) (changed bool, landing [sha256.Size]byte, err error) {
	sum := sha256.New()
	for i := range p.layers {
		if err := p.begin(ctx, i); err != nil {
			return false, landing, err
		}
		if p.ordered[i] {
			err = p.read(ctx, i, nil, func(h *tar.Header, _ io.Reader) error {
				return p.note(i, entryOf(h), sum)
			})
		} else {
			var matters bool
			matters, err = p.learnIndex(ctx, i, sum)
			_, refused := errors.AsType[*Error](err)
			if matters || refused { // the index has lost the order
				p.beginAnew(i)
				return p.learn(ctx)
			}
		}
		if err != nil {
			return false, landing, err
		}
	}
	return p.placer.Changed(), [sha256.Size]byte(sum.Sum(nil)), nil
}

// beginAnew makes the first pass begin again, with the entries of a layer in their order. The
// second time, all layers are read in theirs: a thousand of them must not begin a thousand
// passes.
func (p *placing) beginAnew(layer int) {
	for i := range p.ordered {
		p.ordered[i] = p.ordered[i] || i == layer || p.begunNew
	}
	p.begunNew = true
	p.placer = p.placer.Anew()
}

// learnIndex places the entries of a layer in the order of their names, and reports whether
// their own order matters.
func (p *placing) learnIndex(ctx context.Context, layer int, sum hash.Hash) (orderMatters bool, err error) {
	turn := unpack.New(ctx)
	if err := turn.Enter(); err != nil {
		return false, err
	}
	defer turn.Leave()
	p.during(ctx, turn)
	p.placer.Watch(p.indexes[layer])
	n := 0
	for e := range p.indexes[layer].All() {
		if n++; n%256 == 0 {
			if err := errors.Join(turn.Share(), ctx.Err()); err != nil {
				return false, err
			}
		}
		if err := p.note(layer, e, sum); err != nil {
			return false, err
		}
	}
	return p.placer.OrderMatters()
}

// note adds to sum where an entry lands.
func (p *placing) note(layer int, e layerindex.Entry, sum hash.Hash) error {
	placed, err := p.place(layer, e)
	if err != nil {
		return err
	}
	b := appendText(nil, e.Name)
	b = appendText(append(b, byte(e.Kind), byte(placed.Kind)), placed.Name)
	b = appendText(fmt.Append(b, layer, placed.Drop), placed.Target)
	if placed.Attributes != nil {
		placed.Before = append(placed.Before, *placed.Attributes)
	}
	for _, d := range placed.Before {
		b = appendText(append(b, byte(d.Kind)), d.Name)
		b = fmt.Appendf(b, "%o %d %d %d ", d.Mode, d.UID, d.GID, d.ModTime)
		for _, name := range slices.Sorted(maps.Keys(d.Xattrs)) {
			b = appendText(appendText(b, name), d.Xattrs[name])
		}
	}
	// What authors of images choose has its length before it, so that no two lists of
	// entries look the same.
	sum.Write(appendText(nil, string(b)))
	return nil
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func (p *placing) place(layer int, e layerindex.Entry) (rootfs.Placed, error) {
	placed, err := p.placer.Place(e, !p.layers[layer].OwnModes)
	if err != nil {
		return placed, asLanding(err)
	}
	return placed, p.memory.grow(p.placer.Bytes())
}

// asLanding turns complaints about links into an *Error. Other errors stay.
func asLanding(err error) error {
	_, loop := errors.AsType[*rootfs.LoopError](err)
	if _, deep := errors.AsType[*rootfs.DepthError](err); loop || deep {
		return Errorf("layer entry %v", err)
	}
	return err
}

// pass calls fn with all entries of the layers as they are to be written, their names
// cleaned. n counts the entries of a layer. *holes goes down by the bytes of holes that
// fn reads, unless holes is nil.
func (p *placing) pass(ctx context.Context, holes *int64, fn func(at position, h *tar.Header, body io.Reader) error) error {
	if p.placer != nil {
		p.placer.Restart()
	}
	for i := range p.layers {
		if err := p.begin(ctx, i); err != nil {
			return err
		}
		n := 0
		emit := func(h *tar.Header, body io.Reader) error {
			n++
			return fn(position{i, n}, h, body)
		}
		err := p.read(ctx, i, holes, func(h *tar.Header, body io.Reader) error {
			if p.placer == nil {
				if stays(h) {
					return emit(h, body)
				}
				return nil
			}
			return p.emit(i, h, body, emit)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// emit gives one entry of a layer to fn, after what must come before it.
func (p *placing) emit(layer int, h *tar.Header, body io.Reader, fn func(h *tar.Header, body io.Reader) error) error {
	placed, err := p.place(layer, entryOf(h))
	if err != nil {
		return err
	}
	for _, e := range placed.Before {
		if err := fn(headerOf(e), strings.NewReader("")); err != nil {
			return err
		}
	}
	if placed.Drop {
		return nil
	}
	if h.Typeflag == tar.TypeLink {
		h.Linkname = placed.Target
	}
	if placed.Attributes != nil {
		h = headerOf(*placed.Attributes)
	}
	h.Name = markedName(placed.Name, placed.Kind)
	return fn(h, body)
}

// stays cleans the names of a header and reports whether the entry is needed.
func stays(h *tar.Header) bool {
	h.Name = layerindex.Clean(h.Name)
	if h.Typeflag == tar.TypeLink {
		h.Linkname = layerindex.Clean(h.Linkname)
	}
	return h.Name != "." && (h.Typeflag != tar.TypeLink || h.Linkname != h.Name)
}

// read calls fn with the entries of one layer as the archive has them.
func (p *placing) read(ctx context.Context, layer int, holes *int64, fn func(h *tar.Header, body io.Reader) error) error {
	l := p.layers[layer]
	f, err := p.archives.Open(ctx, l.Digest)
	if err != nil {
		return fmt.Errorf("open layer %s: %w", l.Digest, err)
	}
	defer f.Close()
	turn := unpack.New(ctx)
	in, err := unpackFrom(turn, f)
	if err != nil {
		return fmt.Errorf("read layer %s: %w", l.Digest, err)
	}
	defer in.Close()
	p.during(ctx, turn)
	counted := &countingReader{r: in}
	entries := tar.NewReader(counted)
	files := turn.Files(entries, counted.count, holes)
	headers := turn.Headers()
	defer headers.Release()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read layer %s: %w", l.Digest, err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := headers.Hold(h); err != nil {
			return fmt.Errorf("read layer %s: %w", l.Digest, err)
		}
		if err := fn(h, files); err != nil {
			return err
		}
	}
}

// entryOf returns what a header says, as an index has it.
func entryOf(h *tar.Header) layerindex.Entry {
	e := layerindex.Entry{Name: layerindex.Clean(h.Name), Kind: layerindex.Other}
	dir, base := path.Split(e.Name)
	if hidden, ok := strings.CutPrefix(base, whiteout); ok {
		if e.Name, e.Kind = dir+hidden, layerindex.Whiteout; base == whiteoutOpaque {
			e.Name, e.Kind = path.Clean(dir), layerindex.Opaque
		}
		return e
	}
	switch h.Typeflag {
	case tar.TypeSymlink:
		e.Kind, e.Target = layerindex.Link, h.Linkname
	case tar.TypeLink:
		e.Target = layerindex.Clean(h.Linkname)
	case tar.TypeDir:
		e.Kind, e.Mode, e.UID, e.GID, e.ModTime = layerindex.Dir, h.Mode, h.Uid, h.Gid, h.ModTime.UnixNano()
		for name, value := range h.PAXRecords {
			if name, ok := strings.CutPrefix(name, xattrPrefix); ok {
				if e.Xattrs == nil {
					e.Xattrs = map[string]string{}
				}
				e.Xattrs[name] = value
			}
		}
	}
	return e
}

// headerOf returns the header of a directory or an opaque marker.
func headerOf(e layerindex.Entry) *tar.Header {
	if e.Kind == layerindex.Opaque {
		return &tar.Header{Typeflag: tar.TypeReg, Name: markedName(e.Name, e.Kind), Mode: 0o644}
	}
	h := &tar.Header{Typeflag: tar.TypeDir, Name: e.Name, Mode: e.Mode, Uid: e.UID, Gid: e.GID, ModTime: time.Unix(0, e.ModTime)}
	for name, value := range e.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[xattrPrefix+name] = value
	}
	return h
}

// markedName returns the name that an entry has in an archive.
func markedName(name string, kind layerindex.Kind) string {
	switch kind {
	case layerindex.Whiteout:
		dir, base := path.Split(name)
		return dir + whiteout + base
	case layerindex.Opaque:
		return path.Join(name, whiteoutOpaque)
	}
	return name
}
