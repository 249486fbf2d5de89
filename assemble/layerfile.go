package assemble

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"log/slog"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/internal/flight"
	"github.com/waveproxy/waveproxy/layerindex"
)

// maxFilesRecord bounds the bytes of the files in one record. Bundles have some hundred
// KiB; larger ones are read from their layer each time.
const maxFilesRecord = 4 << 20

// Files returns files of a layer of a base image, as augment.Source says. They come from a
// record beside the store, which is given only to a caller that could read the layer, or from
// the whole layer, whose digest is verified. Their memory is not charged to the request;
// chargedSource does that.
func (s baseSource) Files(ctx context.Context, d ocispec.Descriptor, names []string) (map[string]layerindex.File, error) {
	layer, err := s.check(d)
	if err != nil {
		return nil, err
	}
	record := filesRecord(s.repo.Host(), d.Digest, names)
	// As with indexes, reading is charged to the client that began it.
	key := fmt.Sprintf("%q files %q %s", budget.Client(ctx), s.target, record)
	caller := ctx
	files, err := flight.Do(ctx, &s.indexes.reads, key, indexTimeout, func(ctx context.Context) (map[string]layerindex.File, error) {
		files, err := s.loadFiles(ctx, d, names, record)
		if err != nil && caller.Err() != nil {
			err = abandoned{err}
		}
		return files, err
	})
	if err != nil {
		return nil, asForeign(layer, d, refusal(layer, err))
	}
	return files, nil
}

// filesRecord is the name of the record of files of a layer, which belongs to the registry
// that sent the layer, as with indexes.
func filesRecord(registry string, layer digest.Digest, names []string) string {
	return indexRecord(fmt.Sprintf("files %q", names), registry, layer)
}

func (s baseSource) loadFiles(ctx context.Context, d ocispec.Descriptor, names []string, record string) (map[string]layerindex.File, error) {
	if files, ok, err := s.indexes.recordedFiles(ctx, record); err != nil {
		return nil, err
	} else if ok {
		return files, s.indexes.rights.check(ctx, s.repo, layerRight{s.target, d.Digest})
	}
	leave, err := s.indexes.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	done, err := budget.From(ctx).Hold(budget.Fetches, 1)
	if err != nil {
		return nil, err
	}
	defer done()
	body, err := s.repo.Whole(ctx, d)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	files, err := layerindex.Files(ctx, body, names)
	if err != nil {
		return nil, err
	}
	s.indexes.rights.prove(layerRight{s.target, d.Digest})
	s.indexes.keepFiles(ctx, record, files)
	return files, nil
}

// recordedFiles returns the files of a record. A damaged record is as good as none. An
// error is *budget.Exceeded.
func (x *indexes) recordedFiles(ctx context.Context, name string) (files map[string]layerindex.File, ok bool, err error) {
	data, err := x.records.Record(ctx, name)
	if err != nil {
		return nil, false, nil // the layer can be read
	}
	release, err := budget.From(ctx).Hold(budget.Memory, 2*int64(len(data)))
	if err != nil {
		return nil, false, err
	}
	defer release()
	sum, text, found := bytes.Cut(data, []byte("\n"))
	if !found || digest.FromBytes(text) != digest.Digest(sum) || gob.NewDecoder(bytes.NewReader(text)).Decode(&files) != nil {
		slog.WarnContext(ctx, "record of a layer's files is damaged, reading the layer again", "record", name)
		return nil, false, nil
	}
	return files, true, nil
}

// keepFiles records files. Without the record, the layer is read again.
func (x *indexes) keepFiles(ctx context.Context, name string, files map[string]layerindex.File) {
	size := sizeOf(files)
	if size > maxFilesRecord {
		return
	}
	err := func() error {
		release, err := budget.From(ctx).Hold(budget.Memory, 3*size)
		if err != nil {
			return err
		}
		defer release()
		// Names and attributes are any bytes, which JSON would change.
		var encoded bytes.Buffer
		if err := gob.NewEncoder(&encoded).Encode(files); err != nil {
			return err
		}
		text := encoded.Bytes()
		if err := budget.From(ctx).Spend(budget.Files, 1+int64(len(text))>>16); err != nil {
			return err
		}
		return x.records.PutRecord(ctx, name, append([]byte(digest.FromBytes(text)+"\n"), text...))
	}()
	if err != nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) {
		slog.WarnContext(ctx, "cannot record files of a layer, reading it again next time", "record", name, "err", err)
	}
}

// sizeOf returns the bytes of files.
func sizeOf(files map[string]layerindex.File) int64 {
	n := int64(0)
	for name, f := range files {
		n += int64(len(name) + len(f.Data) + len(f.Link))
		for attribute, value := range f.Xattrs {
			n += int64(len(attribute) + len(value))
		}
	}
	return n
}
