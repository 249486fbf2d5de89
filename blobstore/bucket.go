package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/internal/flight"
	"github.com/waveproxy/waveproxy/internal/pack"
	"github.com/waveproxy/waveproxy/internal/sizedlru"
	"github.com/waveproxy/waveproxy/internal/unpack"
)

// BucketOptions are the parts of a Bucket. Objects and Staging are required.
type BucketOptions struct {
	Objects Objects
	// Staging is a directory for blobs that are verified before they are uploaded.
	Staging string
	// Room returns an error while the disk of Staging has no room to spare; nil: it
	// always has.
	Room func() error
	// Revocation reports whether a record is the revocation of a token. All of them are
	// in one object. nil: none is.
	Revocation func(record string) bool
	// Listed reports whether Records lists a record. nil: none is.
	Listed func(record string) bool
	// Redirect lets clients fetch large blobs from the bucket.
	Redirect bool
	// Log gets a line for each damaged blob. nil: none.
	Log *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Bucket is a Store in a bucket of an object storage, with records, which servers may
// share. Its keys are the paths of a Dir. It is safe for concurrent use. An object is
// whole or absent, so a server may be killed at any time.
//
// Beside the keys of a Dir it has:
//
//	index/named/…    the names of the records in a directory of records
//	revoked          the names of all revocations, which each server reads again
//	staging/probe-…  being written to see whether the bucket works
type Bucket struct {
	objects     Objects
	staging     string
	room        func() error
	listed      func(record string) bool
	redirect    bool
	log         *slog.Logger
	now         func() time.Time
	revocations *revocations

	packs     *sizedlru.Cache[string, *readPack]
	sound     *lru.Cache[string, string] // versions of keys that were verified
	verifying flight.Group[struct{}]     // by key and version

	names appender
	mu    sync.Mutex
	lists *lru.Cache[string, listed] // by directory
	last  time.Time                  // of all that are in lists
}

var _ Packs = (*Bucket)(nil)

const (
	// firstGet is how much of a blob is asked for at first: most are read in one request.
	firstGet = 256 << 10
	// packsCost bounds the packs in memory. An image that is loaded reads its pack a few
	// times within a second.
	packsCost = 16 << 20
	maxPacks  = 1024
	maxLists  = 1 << 12
)

// OpenBucket returns the store in a bucket, once the bucket turns out to keep what
// Objects promises and to have a version that this server knows.
func OpenBucket(ctx context.Context, o BucketOptions) (*Bucket, error) {
	b := &Bucket{objects: o.Objects, staging: o.Staging, room: o.Room, listed: o.Listed, redirect: o.Redirect, log: o.Log, now: o.Now}
	if b.now == nil {
		b.now = time.Now
	}
	if b.listed == nil {
		b.listed = func(string) bool { return false }
	}
	b.packs = sizedlru.New[string, *readPack](packsCost, maxPacks, 0)
	b.sound, _ = lru.New[string, string](maxSound) // only sizes below 1 fail
	b.lists, _ = lru.New[string, listed](maxLists)
	b.names.bucket = b
	b.revocations = newRevocations(b, o.Revocation)
	if err := b.openFormat(ctx); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return b, nil
}

// Open implements Store. The bytes of a small blob are verified, once while its object
// stays as it is. The blob is read until ctx ends.
func (b *Bucket) Open(ctx context.Context, d digest.Digest) (io.ReadSeekCloser, error) {
	if err := checkDigest(d); err != nil {
		return nil, err
	}
	blob, err := b.openAt(ctx, blobKey(d), d)
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", d, err)
	}
	return blob, nil
}

// openAt opens a blob's object, and verifies a small one.
func (b *Bucket) openAt(ctx context.Context, key string, d digest.Digest) (io.ReadSeekCloser, error) {
	blob, err := b.openObject(ctx, key)
	if err == nil {
		err = b.verify(ctx, blob, d, maxVerifiedOpen)
	}
	if err != nil {
		return nil, err
	}
	return blob, nil
}

// verify returns ErrDamaged, or another error, and closes the blob if its bytes have
// another digest. A blob of more than limit bytes passes.
func (b *Bucket) verify(ctx context.Context, blob *objectBlob, d digest.Digest, limit int64) (err error) {
	version, ok := b.sound.Peek(blob.key)
	switch {
	case ok && version == blob.version || blob.size > limit:
		return nil
	case blob.small != nil:
		if d.Algorithm().FromBytes(blob.small) != d {
			err = b.damaged(d, blob.size)
		}
	default:
		_, err = b.verifying.Do(ctx, blob.key+" "+blob.version, verifyTimeout, func(ctx context.Context) (struct{}, error) {
			return struct{}{}, b.verifyLarge(ctx, blob, d)
		})
	}
	if err != nil {
		blob.Close()
		return err
	}
	b.sound.Add(blob.key, blob.version)
	return nil
}

// verifyLarge reads an object of the digest by itself, because it may outlast the call
// that began it.
func (b *Bucket) verifyLarge(ctx context.Context, blob *objectBlob, d digest.Digest) error {
	own := &objectBlob{bucket: b, ctx: ctx, key: blob.key, version: blob.version, size: blob.size}
	defer own.Close()
	turn := unpack.New(ctx)
	if err := turn.Enter(); err != nil {
		return err
	}
	defer turn.Leave()
	err := copyVerified(ctx, io.Discard, turn.Outside(own), d)
	if errors.Is(err, ErrMismatch) {
		return b.damaged(d, blob.size)
	}
	return err
}

func (b *Bucket) damaged(d digest.Digest, size int64) error {
	if b.log != nil {
		b.log.Error("stored blob is damaged, it is missing until a request stores it again", "digest", d, "size", size)
	}
	return ErrDamaged
}

// Verify implements Store. Concurrent calls share the reading of a large blob, which
// takes turns with the unpacking of archives: an error may be *budget.Exceeded.
func (b *Bucket) Verify(ctx context.Context, d digest.Digest) error {
	if err := checkDigest(d); err != nil {
		return err
	}
	if err := b.verifyAt(ctx, blobKey(d), d); err != nil {
		return fmt.Errorf("verify blob %s: %w", d, err)
	}
	return nil
}

func (b *Bucket) verifyAt(ctx context.Context, key string, d digest.Digest) error {
	blob, err := b.openObject(ctx, key)
	if err != nil {
		return err
	}
	defer blob.Close()
	return b.verify(ctx, blob, d, math.MaxInt64)
}

// Put implements Store. It does not read r if the blob is stored already, and
// replaces a damaged one. It uploads no byte before all are verified.
func (b *Bucket) Put(ctx context.Context, d digest.Digest, r io.Reader) error {
	if err := checkDigest(d); err != nil {
		return err
	}
	if err := b.putAt(ctx, blobKey(d), d, r); err != nil {
		return fmt.Errorf("put blob %s: %w", d, err)
	}
	return nil
}

func (b *Bucket) putAt(ctx context.Context, key string, d digest.Digest, r io.Reader) error {
	err := b.verifyAt(ctx, key, d)
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	// Readers of a sound blob that another server stores meanwhile keep their version.
	condition := Condition{Absent: !errors.Is(err, ErrDamaged)}
	stage := NewStage(b.staging)
	stage.Room = b.room
	defer stage.Close()
	content, size, err := b.hold(ctx, stage, d, r)
	if err != nil {
		return err
	}
	version, err := b.write(ctx, key, content, size, condition)
	if errors.Is(err, ErrChanged) {
		return b.verifyAt(ctx, key, d)
	}
	if err == nil {
		b.sound.Add(key, version)
	}
	return err
}

// hold returns the bytes of r once they are verified: in memory if they are few, and
// otherwise in the stage.
func (b *Bucket) hold(ctx context.Context, stage *Stage, d digest.Digest, r io.Reader) (io.ReaderAt, int64, error) {
	var first bytes.Buffer
	if _, err := io.CopyN(&first, contextReader{ctx, r}, pack.MaxPart+1); errors.Is(err, io.EOF) {
		if err := copyVerified(ctx, io.Discard, bytes.NewReader(first.Bytes()), d); err != nil {
			return nil, 0, err
		}
		return bytes.NewReader(first.Bytes()), int64(first.Len()), nil
	} else if err != nil {
		return nil, 0, err
	}
	if err := stage.Put(ctx, d, io.MultiReader(&first, r)); err != nil {
		return nil, 0, err
	}
	staged, err := stage.Open(ctx, d)
	if err != nil {
		return nil, 0, err
	}
	blob := staged.(stagedBlob)
	return blob.SectionReader, blob.Size(), nil
}

// write is Objects.Put, charged to the budget of ctx.
func (b *Bucket) write(ctx context.Context, key string, r io.ReaderAt, size int64, c Condition) (version string, err error) {
	if err := budget.From(ctx).Spend(budget.Files, 1); err != nil {
		return "", err
	}
	return b.put(ctx, key, r, size, c)
}

// put is Objects.Put with a deadline: half a minute, and a second for each MiB.
func (b *Bucket) put(ctx context.Context, key string, r io.ReaderAt, size int64, c Condition) (version string, err error) {
	err = within(ctx, callTimeout+time.Duration(size>>20)*time.Second, func(ctx context.Context) error {
		version, err = b.objects.Put(ctx, key, r, size, c)
		return err
	})
	return version, err
}
