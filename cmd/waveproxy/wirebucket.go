package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/blobstore/s3"
	"github.com/waveproxy/waveproxy/config"
	"github.com/waveproxy/waveproxy/registry"
)

// openBucketTimeout bounds the first requests to a bucket.
const openBucketTimeout = time.Minute

// openBucket returns the store in the bucket of the configuration. local has its
// temporary files.
func openBucket(cfg *config.Config, local *blobstore.Dir, log *slog.Logger) (*blobstore.Bucket, error) {
	ctx, cancel := context.WithTimeout(context.Background(), openBucketTimeout)
	defer cancel()
	objects, err := openS3(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("storage.s3: %w", err)
	}
	b, err := blobstore.OpenBucket(ctx, blobstore.BucketOptions{
		Objects: objects, Staging: local.Staging(), Room: local.Room, Redirect: cfg.Storage.Redirect,
		Revocation: auth.IsRevocation, Listed: registry.IsImageRecord, Log: log,
	})
	if err != nil {
		return nil, fmt.Errorf("storage.s3: %w", err)
	}
	return b, nil
}

func openS3(ctx context.Context, cfg *config.Config) (*s3.Bucket, error) {
	o := cfg.Storage.S3
	if _, err := o.Secret(); err != nil {
		return nil, fmt.Errorf("secret_access_key: %w", err)
	}
	client, err := trusting(cfg, "")
	if err != nil {
		return nil, err
	}
	return s3.Open(ctx, s3.Options{
		Name: o.Bucket, Prefix: o.Prefix, Region: o.Region, Endpoint: o.Endpoint.String(), PathStyle: o.PathStyle,
		AccessKeyID: o.AccessKeyID, Secret: o.Secret, RoleARN: o.Role, ExternalID: o.ExternalID,
		Transport: client.Transport.(*http.Transport),
	})
}

// bucketProbe tells whether a bucket, and the directory of its temporary files, take
// files and give them back.
func bucketProbe(bucket *blobstore.Bucket, local *blobstore.Dir) func() error {
	return func() error {
		if err := local.Probe(); err != nil {
			return err
		}
		return bucket.Probe()
	}
}

// bucketCollection collects a bucket while a server runs.
type bucketCollection struct {
	bucket *blobstore.Bucket
	log    *slog.Logger
	// collected gets what each collection has deleted.
	collected func(files, bytes int64)
}

// run collects until ctx ends. Several servers may do so at once.
func (c bucketCollection) run(ctx context.Context) {
	eachHour(ctx, func(ctx context.Context) {
		done, err := c.bucket.Collect(ctx)
		c.collected(done.Files, done.Bytes)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			c.log.WarnContext(ctx, "cannot collect the bucket, what has expired keeps its place", "objects", done.Files, "error", err)
		case done.Files > 0:
			c.log.InfoContext(ctx, "bucket collected", "days", done.Days, "objects", done.Files)
		}
	})
}
