package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/blobstore/internal/remote"
)

func (b *Bucket) where() string { return fmt.Sprintf("s3 bucket %s", b.options.Name) }

// status returns the status of the answer, or 0 if there was none.
func status(err error) int {
	if answer, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		return answer.HTTPStatusCode()
	}
	return 0
}

// fail returns what an error of the SDK means: one of blobstore's, or a text with a
// remedy.
func (b *Bucket) fail(ctx context.Context, operation string, err error) error {
	if err == nil {
		return nil
	}
	answer, answered := errors.AsType[smithy.APIError](err)
	code := ""
	if answered {
		code = answer.ErrorCode()
	}
	switch {
	case status(err) == http.StatusNotModified:
		return blobstore.ErrUnchanged
	case status(err) == http.StatusNotFound && (code == "NoSuchKey" || code == "NotFound"):
		return blobstore.ErrNotFound
	case status(err) == http.StatusPreconditionFailed, code == "ConditionalRequestConflict":
		return fmt.Errorf("%s: %s: %w", b.where(), operation, blobstore.ErrChanged)
	}
	cause := err
	if answered {
		cause = fmt.Errorf("%s: %s", code, answer.ErrorMessage())
	} else if call := innermost(err); call != nil {
		cause = call.Err
	}
	secret := ""
	if b.options.Secret != nil {
		secret, _ = b.options.Secret() // without it, the keys were not read for the request either
	}
	return remote.Error(ctx, b.where(), operation, cause, b.remedy(code, status(err), answered), secret)
}

// failPut is fail for a write with a condition: where the object must have a version, an
// absent one has changed.
func (b *Bucket) failPut(ctx context.Context, operation string, err error, c blobstore.Condition) error {
	failed := b.fail(ctx, operation, err)
	if errors.Is(failed, blobstore.ErrNotFound) && c.Version != "" {
		return fmt.Errorf("%s: %s: %w", b.where(), operation, blobstore.ErrChanged)
	}
	if errors.Is(failed, blobstore.ErrNotFound) {
		return remote.Error(ctx, b.where(), operation, errors.New("not found"), "see whether the bucket exists")
	}
	return failed
}

// innermost returns the innermost call that failed, such as the one for credentials.
func innermost(err error) (call *smithy.OperationError) {
	for next, ok := errors.AsType[*smithy.OperationError](err); ok; next, ok = errors.AsType[*smithy.OperationError](next.Err) {
		call = next
	}
	return call
}

func (b *Bucket) remedy(code string, status int, answered bool) string {
	switch code {
	case "NoSuchBucket":
		return "make the bucket, or see storage.s3.bucket and storage.s3.endpoint"
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken":
		return "the keys that this server uses are wrong or expired"
	case "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException":
		return "the bucket is in another region: set storage.s3.region"
	case "AccessDenied":
		return "the identity needs s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload and s3:ListBucket"
	case "NotImplemented":
		return "the storage cannot do what this server needs: use a newer version of it"
	case "SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout":
		return "the storage is busy: ask again later"
	}
	switch {
	case status == http.StatusForbidden:
		return "the identity needs s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload and s3:ListBucket"
	case status >= 500:
		return "the storage is broken or busy: see its state, and ask again later"
	case !answered && b.options.Endpoint != "":
		return fmt.Sprintf("see whether %s is reached from here, and whether this server has credentials", b.options.Endpoint)
	case !answered:
		return "give this server credentials (keys, instance profile, IRSA, pod identity), and see whether AWS is reached from here"
	}
	return "see storage.s3: the keys, the bucket and the endpoint"
}
