package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/internal/pack"
)

const (
	// callTimeout bounds a call that sends and brings little, with its repetitions.
	callTimeout = 30 * time.Second
	// silence is how long an object storage may send nothing of an object.
	silence = 30 * time.Second
	// readAttempts is how often the rest of an object is asked for without a byte coming.
	readAttempts = 3
)

var errSilent = fmt.Errorf("the object storage sent nothing for %s; see whether it can be reached", silence)

// within runs a call that ends after the time at the latest.
func within(ctx context.Context, limit time.Duration, call func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := call(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("the object storage did not answer within %s; see whether it can be reached: %w", limit, err)
	}
	return err
}

// get is Objects.Get with a deadline for the answer, and for each read of its body.
func (b *Bucket) get(ctx context.Context, key string, s Selection) (Object, error) {
	if err := ctx.Err(); err != nil {
		return Object{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(silence, func() { cancel(errSilent) })
	o, err := b.objects.Get(ctx, key, s)
	timer.Stop()
	if err != nil {
		if context.Cause(ctx) == errSilent {
			err = errSilent
		}
		cancel(nil)
		return Object{}, err
	}
	o.Body = &watchedBody{o.Body, ctx, cancel, timer}
	return o, nil
}

// watchedBody fails when a read takes longer than silence.
type watchedBody struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

func (w *watchedBody) Read(p []byte) (int, error) {
	w.timer.Reset(silence)
	n, err := w.ReadCloser.Read(p)
	w.timer.Stop()
	if err != nil && err != io.EOF && context.Cause(w.ctx) == errSilent {
		err = errSilent
	}
	return n, err
}

func (w *watchedBody) Close() error {
	w.timer.Stop()
	w.cancel(nil)
	return w.ReadCloser.Close()
}

// fetch returns a whole object of at most max bytes, and its version. One with the
// version not is ErrUnchanged.
func (b *Bucket) fetch(ctx context.Context, key, not string, max int64) (data []byte, version string, err error) {
	for range readAttempts {
		var o Object
		if o, err = b.get(ctx, key, Selection{Not: not}); err != nil {
			return nil, "", err
		}
		if o.Size > max {
			o.Body.Close()
			return nil, "", fmt.Errorf("%s is larger than %d bytes", key, max)
		}
		data, err = readWhole(o.Body, o.Size)
		o.Body.Close()
		if err == nil {
			return data, o.Version, nil
		}
		if ctx.Err() != nil {
			return nil, "", ctx.Err()
		}
	}
	return nil, "", fmt.Errorf("read %s: %w", key, err)
}

func readWhole(r io.Reader, size int64) ([]byte, error) {
	data := make([]byte, size)
	_, err := io.ReadFull(r, data)
	return data, err
}

// openObject returns an object as a blob. A small one is read, and one that is larger
// than parts of packs is charged to the memory of the request.
func (b *Bucket) openObject(ctx context.Context, key string) (*objectBlob, error) {
	o, err := b.get(ctx, key, Selection{Length: firstGet})
	if err != nil {
		return nil, err
	}
	blob := &objectBlob{bucket: b, ctx: ctx, key: key, version: o.Version, size: o.Size, body: o.Body, end: min(o.Size, firstGet)}
	if o.Size > firstGet {
		return blob, nil
	}
	if err := blob.readSmall(); err != nil {
		blob.Close()
		return nil, err
	}
	return blob, nil
}

func (o *objectBlob) readSmall() (err error) {
	if o.size > pack.MaxPart {
		if o.release, err = budget.From(o.ctx).Hold(budget.Memory, o.size); err != nil {
			return err
		}
	}
	small := make([]byte, o.size)
	_, err = io.ReadFull(o, small)
	o.closeBody()
	o.small, o.at = small, 0
	return err
}

// objectBlob reads an object. Where a body breaks off, the rest of the same version is
// asked for.
type objectBlob struct {
	bucket       *Bucket
	ctx          context.Context
	key, version string
	size         int64
	small        []byte // the whole object; nil: it is read as it is asked for
	release      func() // gives back what it holds in memory; nil: nothing
	at           int64  // of the next Read

	body     io.ReadCloser // nil: none is open
	bodyAt   int64         // of its next byte
	end      int64         // where it ends
	failures int
}

func (o *objectBlob) Read(p []byte) (int, error) {
	if o.at >= o.size {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	if o.small != nil {
		n := copy(p, o.small[o.at:])
		o.at += int64(n)
		return n, nil
	}
	for {
		n, err := o.readBody(p)
		if n > 0 {
			o.failures = 0
			return n, nil
		}
		if err == nil {
			continue
		}
		if o.failures++; o.ctx.Err() != nil || o.failures >= readAttempts || errors.Is(err, ErrNotFound) || errors.Is(err, ErrChanged) {
			return 0, fmt.Errorf("read %s from byte %d on: %w", o.key, o.at, err)
		}
	}
}

// readBody reads from the body that is open, or from another one.
func (o *objectBlob) readBody(p []byte) (int, error) {
	if o.body == nil || o.bodyAt != o.at {
		o.closeBody()
		from, err := o.bucket.get(o.ctx, o.key, Selection{Offset: o.at, Only: o.version})
		if err != nil {
			return 0, err
		}
		o.body, o.bodyAt, o.end = from.Body, o.at, o.size
	}
	n, err := o.body.Read(p[:min(int64(len(p)), o.end-o.bodyAt)])
	o.bodyAt += int64(n)
	o.at = o.bodyAt
	if o.bodyAt == o.end {
		err = nil
	} else if err == nil {
		return n, nil
	} else if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	o.closeBody()
	return n, err
}

func (o *objectBlob) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += o.at
	case io.SeekEnd:
		offset += o.size
	}
	if offset < 0 {
		return 0, errors.New("seek to before the start of a blob")
	}
	o.at = offset
	return offset, nil
}

func (o *objectBlob) Close() error {
	if o.release != nil {
		o.release()
	}
	o.closeBody()
	return nil
}

// closeBody ends the request that is under way.
func (o *objectBlob) closeBody() {
	if o.body != nil {
		o.body.Close()
		o.body = nil
	}
}

// putBytes is put for bytes in memory.
func (b *Bucket) putBytes(ctx context.Context, key string, data []byte, c Condition) (version string, err error) {
	return b.put(ctx, key, bytes.NewReader(data), int64(len(data)), c)
}
