package blobstore

import (
	"context"
	_ "crypto/sha256" // makes the algorithm known to go-digest
	_ "crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"

	"github.com/opencontainers/go-digest"
)

// Store keeps immutable blobs by digest. It is safe for concurrent use. Digests
// are sha256 or sha512; any other is an error.
type Store interface {
	// Open returns the blob, or an error that is ErrNotFound; that of a damaged blob
	// is ErrDamaged, if it shows. Seeking costs
	// nothing until the next Read, so HEAD and ranges read no more than they
	// send. The caller closes it.
	Open(ctx context.Context, d digest.Digest) (io.ReadSeekCloser, error)

	// Put stores the bytes of r. When it returns nil the blob is durable. If the
	// bytes have another digest the error is ErrMismatch; then, as after any
	// error of r or ctx, nothing is stored. Putting a blob again is no error and
	// may leave r unread. Put looks at ctx between reads. A Read that can block
	// has to end with ctx by itself, as the body of an HTTP response does.
	Put(ctx context.Context, d digest.Digest, r io.Reader) error

	// Verify returns nil if the blob is stored with the bytes of its digest, and an
	// error that is ErrNotFound if it is absent or damaged. It may read the whole
	// blob, but not again while it stays as it is.
	Verify(ctx context.Context, d digest.Digest) error
}

var (
	// ErrNotFound says that the store has no such blob or record. It wraps
	// fs.ErrNotExist.
	ErrNotFound = fmt.Errorf("not in the store: %w", fs.ErrNotExist)

	// ErrDamaged says that the store has other bytes than those of the digest. It
	// wraps ErrNotFound, because the blob is not there, and the next Put stores it
	// anew.
	ErrDamaged = fmt.Errorf("damaged, so %w", ErrNotFound)

	// ErrLost says that Serve cannot give a blob that was promised, because its file
	// is damaged. It is not ErrNotFound.
	ErrLost = errors.New("the next Put stores it anew")

	// ErrMismatch says that the bytes given to Put do not have the digest given
	// with them. The message names both.
	ErrMismatch = errors.New("digest mismatch")
)

// maxRecord bounds a record, in bytes. Grants carry the environment variables of
// a request, which can be large.
const maxRecord = 8 << 20

var recordName = regexp.MustCompile(`^[a-z0-9]+(/[a-z0-9-]+)*$`)

func checkRecordName(name string) error {
	if !recordName.MatchString(name) {
		return fmt.Errorf("invalid record name %q", name)
	}
	return checkDay(name)
}

func checkRecordSize(size int) error {
	if size > maxRecord {
		return fmt.Errorf("record is larger than %d bytes", maxRecord)
	}
	return nil
}

func checkDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("invalid digest %q: %w", d, err)
	}
	if a := d.Algorithm(); a != digest.SHA256 && a != digest.SHA512 {
		return fmt.Errorf("invalid digest %q: %w", d, digest.ErrDigestUnsupported)
	}
	return nil
}

// copyVerified copies r to w and returns ErrMismatch unless the bytes have the
// digest d, which has been checked to be valid.
func copyVerified(ctx context.Context, w io.Writer, r io.Reader, d digest.Digest) error {
	h := d.Algorithm().Hash()
	if _, err := io.Copy(io.MultiWriter(w, h), contextReader{ctx, r}); err != nil {
		return err
	}
	if found := digest.NewDigest(d.Algorithm(), h); found != d {
		return fmt.Errorf("%w: expected %s, found %s", ErrMismatch, d, found)
	}
	return nil
}

// contextReader fails as soon as its context has ended.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
