package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/internal/pack"
)

const (
	// maxPack bounds the object of a record, in bytes: with its parts, and with the table.
	maxPack = maxRecord + pack.MaxParts + 2<<20
	// justRead is how long after it was read a record is known to be stored. The names of
	// records that are written again say that they are needed for longer than that.
	justRead = 5 * time.Second
	// redirectLife is how long a client may begin to fetch a blob from the bucket. Slow
	// engines repeat a download with the same URL.
	redirectLife = 15 * time.Minute
)

// readPack is a record's object in memory.
type readPack struct {
	data []byte
	pack *pack.Pack
	read time.Time
}

// Record returns the named record, or an error that is ErrNotFound. What a server has
// written before the call is seen.
func (b *Bucket) Record(ctx context.Context, name string) ([]byte, error) {
	return b.record(ctx, name, 0)
}

// RecentRecord is Record, except that a revocation of the last second may be missed. So
// the server asks for revocations once a second, however many tokens are used.
func (b *Bucket) RecentRecord(ctx context.Context, name string) ([]byte, error) {
	return b.record(ctx, name, recentRevocations)
}

func (b *Bucket) record(ctx context.Context, name string, age time.Duration) ([]byte, error) {
	err := checkRecordName(name)
	if err != nil {
		return nil, err
	}
	var data []byte
	if b.revocations.has(name) {
		data, err = b.revocations.record(ctx, name, age)
	} else if data, _, err = b.fetch(ctx, recordKey(name), "", maxPack); err == nil {
		data, err = b.unpack(name, data)
	}
	if err != nil {
		return nil, fmt.Errorf("read record %s: %w", name, err)
	}
	return data, nil
}

// unpack returns the record in an object, and keeps its pack in memory. Of a damaged one
// it returns all, because records have checks of their own, and a damaged one must not
// look as if it were absent.
func (b *Bucket) unpack(name string, data []byte) ([]byte, error) {
	p, ok, err := pack.Read(bytes.NewReader(data), int64(len(data)))
	if err != nil || !ok {
		return data, checkRecordSize(len(data))
	}
	b.keep(name, &readPack{data, p, time.Now()})
	return p.Record()
}

// packCost is what a pack costs in memory beside its bytes.
const packCost = 512

func (b *Bucket) keep(name string, p *readPack) {
	b.packs.Add(name, p, int64(len(p.data)+len(name)+128*len(p.pack.Parts())+packCost))
}

// PutRecord stores data, at most 8 MiB, in place of any earlier record of that name.
// When it returns nil the record is durable.
func (b *Bucket) PutRecord(ctx context.Context, name string, data []byte) error {
	err := checkRecordName(name)
	if err != nil {
		return err
	}
	if err = ctx.Err(); err == nil {
		err = checkRecordSize(len(data))
	}
	switch {
	case err != nil:
	case b.revocations.has(name):
		err = b.revocations.add(ctx, name, data)
	default:
		b.packs.Remove(name)
		if err = b.list(ctx, name); err == nil {
			_, err = b.write(ctx, recordKey(name), bytes.NewReader(data), int64(len(data)), Condition{})
		}
	}
	if err != nil {
		return fmt.Errorf("write record %s: %w", name, err)
	}
	return nil
}

// PutPack implements Packs. A part that is too large for the record's object gets an
// object of its own.
func (b *Bucket) PutPack(ctx context.Context, name string, record []byte, parts []pack.Part) error {
	return putPack(ctx, b, name, record, parts)
}

func (b *Bucket) putEncoded(ctx context.Context, name string, data []byte) error {
	// Before the record: a name without a record is looked for again, but a record
	// without its name would never be found.
	if err := b.list(ctx, name); err != nil {
		return err
	}
	if known, ok := b.packs.Get(name); ok && time.Since(known.read) < justRead && bytes.Equal(known.data, data) {
		return nil
	}
	b.packs.Remove(name)
	if _, err := b.write(ctx, recordKey(name), bytes.NewReader(data), int64(len(data)), Condition{}); err != nil {
		return err
	}
	_, err := b.unpack(name, data)
	return err
}

// putLarge stores a part in an object of its own, which goes with the record's day.
func (b *Bucket) putLarge(ctx context.Context, name string, p pack.Part) error {
	key := blobKey(p.Digest)
	if day, _, ok := dayOf(name); ok {
		key = dayBlobKey(day, p.Digest)
		if err := b.verifyAt(ctx, key, p.Digest); !errors.Is(err, ErrNotFound) {
			return err
		}
		if done, err := b.copyShared(ctx, p.Digest, key); done || err != nil {
			return err
		}
	}
	r, err := p.Open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	return b.putAt(ctx, key, p.Digest, r)
}

// copyShared gives a blob that images share a second key, without its bytes passing this
// server. done is false if it has to be uploaded.
func (b *Bucket) copyShared(ctx context.Context, d digest.Digest, key string) (done bool, err error) {
	if b.Verify(ctx, d) != nil {
		return false, nil
	}
	if err := budget.From(ctx).Spend(budget.Files, 1); err != nil {
		return false, err
	}
	var version string
	err = within(ctx, copyTimeout, func(ctx context.Context) (err error) {
		version, err = b.objects.Copy(ctx, blobKey(d), key)
		return err
	})
	if err != nil { // such as of an object that is too large for one request
		return false, ctx.Err()
	}
	b.sound.Add(key, version)
	return true, nil
}

// copyTimeout bounds a copy of an object within the storage.
const copyTimeout = 10 * time.Minute

// In implements Packs.
func (b *Bucket) In(record string) Store { return inBucket{inRecord{b, record}, b} }

// inBucket is the bucket as a record sees it.
type inBucket struct {
	inRecord
	bucket *Bucket
}

var _ Located = inBucket{}

// URL implements Located. The blob is there when it is asked for.
func (s inBucket) URL(ctx context.Context, desc ocispec.Descriptor) (string, error) {
	if !s.bucket.redirect || desc.Size <= firstGet {
		return "", nil
	}
	blob, err := s.Open(ctx, desc.Digest)
	if err != nil {
		return "", err
	}
	defer blob.Close()
	if o, ok := blob.(*objectBlob); ok && o.size == desc.Size {
		return s.bucket.objects.URL(ctx, o.key, redirectLife)
	}
	return "", nil
}

// Verify implements Store. It reads the record's object again.
func (s inBucket) Verify(ctx context.Context, d digest.Digest) error {
	s.bucket.packs.Remove(s.name)
	return s.inRecord.Verify(ctx, d)
}

func (b *Bucket) openKey(ctx context.Context, key string, d digest.Digest) (io.ReadSeekCloser, error) {
	return b.openAt(ctx, key, d)
}

func (b *Bucket) putKey(ctx context.Context, key string, d digest.Digest, r io.Reader) error {
	return b.putAt(ctx, key, d, r)
}

func (b *Bucket) packed(ctx context.Context, name string, d digest.Digest) (io.ReadSeekCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	known, ok := b.packs.Get(name)
	if !ok {
		data, _, err := b.fetch(ctx, recordKey(name), "", maxPack)
		if err != nil {
			return nil, err
		}
		p, isPack, err := pack.Read(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return nil, b.damaged(d, int64(len(data)))
		}
		if !isPack {
			return nil, ErrNotFound
		}
		known = &readPack{data, p, time.Now()}
		b.keep(name, known)
	}
	data, ok, err := known.pack.Part(d)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, ErrNotFound
	case d.Algorithm().FromBytes(data) != d:
		b.packs.Remove(name) // it may be repaired by another server
		return nil, b.damaged(d, int64(len(known.data)))
	}
	return memBlob{bytes.NewReader(data)}, nil
}
