package assemble

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/layerindex"
	"github.com/waveproxy/waveproxy/upstream"
)

// Index returns the index of a layer of a base image, as augment.Source says. Its memory is
// not charged to the request; chargedSource does that.
func (s baseSource) Index(ctx context.Context, d ocispec.Descriptor) (*layerindex.Index, error) {
	index, release, err := s.index(ctx, d)
	if err != nil {
		return nil, err
	}
	release()
	return index, nil
}

// index returns the index of a layer of a base image, and has it in memory until release.
func (s baseSource) index(ctx context.Context, d ocispec.Descriptor) (*layerindex.Index, func(), error) {
	layer, err := s.check(d)
	if err != nil {
		return nil, nil, err
	}
	names := recordsOf(s.repo.Host(), d)
	index, release, err := s.indexes.provide(ctx, wanted{
		key: fmt.Sprintf("%q %q", s.target, names), records: names,
		may: func(ctx context.Context) error {
			return s.indexes.rights.check(ctx, s.repo, layerRight{s.target, d.Digest})
		},
		read: func(ctx context.Context) (found, bool, error) {
			f, err := s.readIndex(ctx, d, names)
			return f, true, err
		},
	})
	if err != nil {
		return nil, nil, asForeign(layer, d, refusal(layer, err))
	}
	return index, release, nil
}

// check returns how a layer is called in messages. An error says that it cannot be read.
func (s baseSource) check(d ocispec.Descriptor) (layer string, err error) {
	layer = fmt.Sprintf("layer %s of %s/%s", d.Digest, s.target.Registry, s.target.Repository)
	if err := d.Digest.Validate(); err != nil {
		return "", augment.Errorf("layer %.100q of %s/%s: %v", d.Digest, s.target.Registry, s.target.Repository, err)
	}
	if isEncrypted(d.MediaType) {
		return "", augment.Errorf("%s is encrypted, so where the entry would land cannot be told", layer)
	}
	return layer, nil
}

// asForeign says of a layer that a registry need not have, and does not, what it is.
func asForeign(layer string, d ocispec.Descriptor, err error) error {
	if e, ok := errors.AsType[*upstream.Error](err); ok && e.Kind == upstream.NotFound && isForeign(d.MediaType) {
		return augment.Errorf("%s is a foreign layer, which its registry does not have, so this server cannot see what it has", layer)
	}
	return err
}

// isEncrypted reports whether only a key opens a layer: +encrypted of OCI, +enc of Docker.
func isEncrypted(mediaType string) bool { return strings.Contains(mediaType, "+enc") }

// isForeign reports whether registries need not have a layer.
func isForeign(mediaType string) bool {
	return strings.Contains(mediaType, ".nondistributable.") || strings.Contains(mediaType, ".foreign.")
}

// readIndex reads the index of a layer from its registry: from its table of contents, if that
// is what the descriptor says, else from the whole layer. names are those of recordsOf.
func (s baseSource) readIndex(ctx context.Context, d ocispec.Descriptor, names []string) (found, error) {
	done, err := budget.From(ctx).Hold(budget.Fetches, 1)
	if err != nil {
		return found{}, err
	}
	defer done()
	if toc, ok := layerindex.TOCOf(d); ok {
		index, err := toc.Read(ctx, func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
			return s.repo.Part(ctx, d, upstream.Span{Offset: offset, Length: length})
		})
		if err == nil {
			s.indexes.rights.prove(layerRight{s.target, d.Digest})
			return found{names[1], index}, nil
		}
		if _, refused := errors.AsType[*budget.Exceeded](err); refused || ctx.Err() != nil {
			return found{}, err
		}
		slog.InfoContext(ctx, "table of contents of a layer cannot be used, reading the whole layer", "layer", d.Digest, "err", err)
	}
	body, err := s.repo.Whole(ctx, d)
	if err != nil {
		return found{}, err
	}
	defer body.Close()
	index, err := layerindex.Read(ctx, body)
	if err != nil {
		return found{}, err
	}
	s.indexes.rights.prove(layerRight{s.target, d.Digest})
	return found{names[0], index}, nil
}

// smallAdded is the size of added layers, in bytes, whose indexes are not recorded: reading
// them takes less than a record, and requests bring them by the thousand.
const smallAdded = 256 << 10

// added returns the index of a layer that is in the archives, and has it in memory until
// release. The layer need not be in the store yet.
func (x *indexes) added(ctx context.Context, archives augment.Archives, l augment.Layer) (*layerindex.Index, func(), error) {
	name := indexRecord(ofAdded, "", l.Digest)
	index, release, err := x.provide(ctx, wanted{
		key: "added " + name, records: []string{name},
		may: func(context.Context) error { return nil }, // the request has the layer
		read: func(ctx context.Context) (found, bool, error) {
			index, err := readStored(ctx, archives, l.Digest)
			if errors.Is(err, blobstore.ErrNotFound) {
				err = abandoned{err} // the archives are those of one request, which may have ended
			}
			return found{name, index}, l.Size > smallAdded, err
		},
	})
	if err != nil {
		return nil, nil, refusal(fmt.Sprintf("layer %s", l.Digest), err)
	}
	return index, release, nil
}

// readStored reads the index of a layer in the archives.
func readStored(ctx context.Context, archives augment.Archives, d digest.Digest) (*layerindex.Index, error) {
	f, err := archives.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sum := d.Algorithm().Hash()
	index, err := layerindex.Read(ctx, io.TeeReader(f, sum))
	if err == nil && digest.NewDigest(d.Algorithm(), sum) != d {
		err = fmt.Errorf("layer %s: %w", d, blobstore.ErrDamaged)
	}
	return index, err
}
