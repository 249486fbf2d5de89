// Package s3 is a bucket of Amazon S3, or of a storage that is compatible with it, for
// blobstore.Bucket.
//
// The identity comes from the options, else from the AWS SDK: environment,
// configuration files, IRSA, pod identity, instance profile. It needs
// s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload for the objects
// and s3:ListBucket for the bucket, without which absent objects look like forbidden
// ones. The storage must keep the conditions of writes.
//
// The package must never let a key or a signature into an error or a log. It knows nothing
// of blobs and records.
//
// Files: s3.go (the bucket: reading and removing), upload.go (writing), errors.go (what
// answers mean, and remedies).
package s3
