package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/internal/pack"
)

// Packs is a Store that keeps blobs with the record that they belong to.
type Packs interface {
	Store
	// PutPack stores a record with its blobs, in place of any earlier record of that
	// name. When it returns nil, all of it is durable. It writes nothing if just that is
	// stored already. The blobs live as long as the record.
	PutPack(ctx context.Context, name string, record []byte, parts []pack.Part) error
	// In returns the store as the record sees it: its own blobs first, then all others.
	// Put gives the record one more.
	In(record string) Store
}

// In returns the store as a record sees it, if the store has records and the name is
// not empty, and otherwise the store.
func In(s Store, record string) Store {
	if p, ok := s.(Packs); ok && record != "" {
		return p.In(record)
	}
	return s
}

// With returns the store with some blobs that are not stored yet.
func With(s Store, parts []pack.Part) Store { return withParts{s, parts} }

type withParts struct {
	Store
	parts []pack.Part
}

func (w withParts) Open(ctx context.Context, d digest.Digest) (io.ReadSeekCloser, error) {
	for _, p := range w.parts {
		if p.Digest != d {
			continue
		}
		r, err := p.Open(ctx)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		data, err := io.ReadAll(r)
		return memBlob{bytes.NewReader(data)}, err
	}
	return w.Store.Open(ctx, d)
}

// PutPack implements Packs. A part that is too large for the record's file gets a file of
// its own beside it, or the name of one that is there: a hard link.
func (d *Dir) PutPack(ctx context.Context, name string, record []byte, parts []pack.Part) error {
	return putPack(ctx, d, name, record, parts)
}

// packer is a store that a pack is put into.
type packer interface {
	putLarge(ctx context.Context, name string, p pack.Part) error
	putEncoded(ctx context.Context, name string, data []byte) error
}

// putPack stores the parts that are too large for a pack, and then the pack.
func putPack(ctx context.Context, s packer, name string, record []byte, parts []pack.Part) error {
	err := func() error {
		err := errors.Join(checkRecordName(name), checkRecordSize(len(record)))
		for _, p := range parts {
			err = errors.Join(err, checkDigest(p.Digest))
		}
		if err != nil {
			return err
		}
		small, large := pack.Split(parts)
		for _, p := range large {
			if err := s.putLarge(ctx, name, p); err != nil {
				return fmt.Errorf("%s: %w", p.Digest, err)
			}
		}
		data, err := pack.Encode(ctx, record, small)
		if errors.Is(err, pack.ErrMismatch) {
			return fmt.Errorf("%w: %w", ErrMismatch, err)
		}
		if err != nil {
			return err
		}
		return s.putEncoded(ctx, name, data)
	}()
	if err != nil {
		return fmt.Errorf("write record %s: %w", name, err)
	}
	return nil
}

func (d *Dir) putEncoded(ctx context.Context, name string, data []byte) error {
	path := d.recordPath(name)
	if f, err := open(ctx, path); err == nil {
		same := holds(f, data)
		f.Close()
		if same { // its writer may not have synced its name yet
			return d.syncEntry(path)
		}
	}
	return d.write(ctx, path, false, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// holds reports whether the file has just this content.
func holds(f *os.File, data []byte) bool {
	info, err := f.Stat()
	if err != nil || info.Size() != int64(len(data)) {
		return false
	}
	found, err := io.ReadAll(f)
	return err == nil && bytes.Equal(found, data)
}

// putLarge stores a part in a file of its own, which goes with the record's day.
func (d *Dir) putLarge(ctx context.Context, name string, p pack.Part) error {
	path := d.blobPath(p.Digest)
	if day, _, ok := dayOf(name); ok {
		path = d.dayBlobPath(day, p.Digest)
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) && d.link(ctx, p.Digest, path) == nil {
			return nil
		}
	}
	r, err := p.Open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	return d.putAt(ctx, path, p.Digest, r)
}

// link gives a stored blob a second name. Any error means that it has to be written.
func (d *Dir) link(ctx context.Context, dgst digest.Digest, path string) error {
	if err := d.Verify(ctx, dgst); err != nil {
		return err
	}
	if err := d.makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	if err := os.Link(d.blobPath(dgst), path); err != nil {
		return err
	}
	return d.syncs.Dir(filepath.Dir(path))
}

// readRecord returns the record in a file: a part of it, if the file is a pack. Of a
// damaged pack it returns the whole file, because records have checks of their own, and
// a damaged one must not look as if it were absent.
func readRecord(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	p, ok, err := pack.Read(f, info.Size())
	if err != nil && !errors.Is(err, pack.ErrDamaged) {
		return nil, err
	}
	if ok && err == nil {
		return p.Record()
	}
	data, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err == nil {
		err = checkRecordSize(len(data))
	}
	return data, err
}

// In implements Packs.
func (d *Dir) In(record string) Store { return inRecord{d, record} }

// keyed is a store with keys, and with blobs that are in packs.
type keyed interface {
	Store
	// packed returns a blob that is in a record's pack, or ErrNotFound.
	packed(ctx context.Context, name string, d digest.Digest) (io.ReadSeekCloser, error)
	openKey(ctx context.Context, key string, d digest.Digest) (io.ReadSeekCloser, error)
	putKey(ctx context.Context, key string, d digest.Digest, r io.Reader) error
}

// inRecord is the store as a record sees it.
type inRecord struct {
	store keyed
	name  string
}

// Open implements Store. A blob that is damaged in one place may be sound in another.
func (s inRecord) Open(ctx context.Context, dgst digest.Digest) (io.ReadSeekCloser, error) {
	if err := checkDigest(dgst); err != nil {
		return nil, err
	}
	if err := checkRecordName(s.name); err != nil {
		return nil, err
	}
	blob, err := s.store.packed(ctx, s.name, dgst)
	if err == nil {
		return blob, nil
	}
	if !errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("open blob %s of record %s: %w", dgst, s.name, err)
	}
	if day, _, ok := dayOf(s.name); ok {
		f, dayErr := s.store.openKey(ctx, dayBlobKey(day, dgst), dgst)
		if dayErr == nil {
			return f, nil
		}
		if !errors.Is(err, ErrDamaged) {
			err = dayErr
		}
	}
	shared, sharedErr := s.store.Open(ctx, dgst)
	if sharedErr == nil {
		return shared, nil
	}
	if errors.Is(err, ErrDamaged) {
		return nil, fmt.Errorf("open blob %s of record %s: %w", dgst, s.name, err)
	}
	return nil, sharedErr
}

func (d *Dir) openKey(ctx context.Context, key string, dgst digest.Digest) (io.ReadSeekCloser, error) {
	f, err := d.openAt(ctx, d.pathOf(key), dgst)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (d *Dir) putKey(ctx context.Context, key string, dgst digest.Digest, r io.Reader) error {
	return d.putAt(ctx, d.pathOf(key), dgst, r)
}

func (d *Dir) packed(ctx context.Context, name string, dgst digest.Digest) (io.ReadSeekCloser, error) {
	f, err := open(ctx, d.recordPath(name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	p, ok, err := pack.Read(f, info.Size())
	if errors.Is(err, pack.ErrDamaged) {
		return nil, d.damagedPart(dgst, info)
	}
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, ErrNotFound // an older version has written the record
	}
	data, ok, err := p.Part(dgst)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, ErrNotFound
	case dgst.Algorithm().FromBytes(data) != dgst:
		return nil, d.damagedPart(dgst, info)
	}
	return memBlob{bytes.NewReader(data)}, nil
}

func (d *Dir) damagedPart(dgst digest.Digest, info os.FileInfo) error {
	d.logDamage(dgst, info)
	return ErrDamaged
}

// Put implements Store. The blob goes with the record.
func (s inRecord) Put(ctx context.Context, dgst digest.Digest, r io.Reader) error {
	day, _, ok := dayOf(s.name)
	if !ok {
		return s.store.Put(ctx, dgst, r)
	}
	if err := checkDigest(dgst); err != nil {
		return err
	}
	if err := s.store.putKey(ctx, dayBlobKey(day, dgst), dgst, r); err != nil {
		return fmt.Errorf("put blob %s: %w", dgst, err)
	}
	return nil
}

// Verify implements Store.
func (s inRecord) Verify(ctx context.Context, dgst digest.Digest) error {
	f, err := s.Open(ctx, dgst)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := copyVerified(ctx, io.Discard, f, dgst); errors.Is(err, ErrMismatch) {
		return fmt.Errorf("verify blob %s: %w", dgst, ErrDamaged)
	} else if err != nil {
		return fmt.Errorf("verify blob %s: %w", dgst, err)
	}
	return nil
}
