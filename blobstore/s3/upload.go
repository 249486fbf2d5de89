package s3

import (
	"context"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/waveproxy/waveproxy/blobstore"
)

const (
	// partSize is from where on an object is uploaded in parts, which are repeated one by
	// one. With 10,000 parts an object may have 600 GiB.
	partSize = 64 << 20
	// partsAtATime of one object are uploaded. They are read from the disk, so they cost no
	// memory.
	partsAtATime = 4
	// abortTimeout bounds giving up an upload.
	abortTimeout = 10 * time.Second
)

// Put implements blobstore.Objects.
func (b *Bucket) Put(ctx context.Context, key string, r io.ReaderAt, size int64, c blobstore.Condition) (version string, err error) {
	absent := ""
	if c.Absent {
		absent = "*"
	}
	if size > b.partSize {
		return b.putParts(ctx, key, r, size, optional(absent), optional(c.Version))
	}
	out, err := b.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &b.options.Name, Key: b.key(key), Body: io.NewSectionReader(r, 0, size), ContentLength: &size,
		ContentType: aws.String(contentType), IfNoneMatch: optional(absent), IfMatch: optional(c.Version),
	})
	if err != nil {
		return "", b.failPut(ctx, "put "+key, err, c)
	}
	return aws.ToString(out.ETag), nil
}

// putParts uploads a large object. It appears when all parts are there.
func (b *Bucket) putParts(ctx context.Context, key string, r io.ReaderAt, size int64, absent, match *string) (version string, err error) {
	upload, err := b.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &b.options.Name, Key: b.key(key), ContentType: aws.String(contentType),
	})
	if err != nil {
		return "", b.fail(ctx, "put "+key, err)
	}
	parts, err := b.sendParts(ctx, key, upload.UploadId, r, size)
	var out *s3.CompleteMultipartUploadOutput
	if err == nil {
		out, err = b.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
			Bucket: &b.options.Name, Key: b.key(key), UploadId: upload.UploadId,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}, IfNoneMatch: absent, IfMatch: match,
		})
	}
	if err == nil {
		return aws.ToString(out.ETag), nil
	}
	// The context may have ended. What stays of the upload costs money until a rule of
	// the bucket removes it.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	_, _ = b.client.AbortMultipartUpload(end, &s3.AbortMultipartUploadInput{Bucket: &b.options.Name, Key: b.key(key), UploadId: upload.UploadId})
	return "", b.fail(ctx, "put "+key, err)
}

func (b *Bucket) sendParts(ctx context.Context, key string, id *string, r io.ReaderAt, size int64) ([]types.CompletedPart, error) {
	parts := make([]types.CompletedPart, (size+b.partSize-1)/b.partSize)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(partsAtATime)
	for i := range parts {
		at, number := int64(i)*b.partSize, int32(i+1)
		length := min(b.partSize, size-at)
		g.Go(func() error {
			out, err := b.client.UploadPart(ctx, &s3.UploadPartInput{
				Bucket: &b.options.Name, Key: b.key(key), UploadId: id, PartNumber: &number,
				Body: io.NewSectionReader(r, at, length), ContentLength: &length,
			})
			if err == nil {
				parts[i] = types.CompletedPart{PartNumber: &number, ETag: out.ETag}
			}
			return err
		})
	}
	return parts, g.Wait()
}
