package front

import "github.com/distribution/distribution/v3/registry/api/errcode"

// Code is an error code of the OCI distribution specification, "Error Codes".
type Code = errcode.ErrorCode

// The codes that this server answers with.
var (
	BlobUnknown     = errcode.ErrorCodeBlobUnknown
	Denied          = errcode.ErrorCodeDenied
	DigestInvalid   = errcode.ErrorCodeDigestInvalid
	ManifestInvalid = errcode.ErrorCodeManifestInvalid
	ManifestUnknown = errcode.ErrorCodeManifestUnknown
	NameInvalid     = errcode.ErrorCodeNameInvalid
	NameUnknown     = errcode.ErrorCodeNameUnknown
	RangeInvalid    = errcode.ErrorCodeRangeInvalid
	TagInvalid      = errcode.ErrorCodeTagInvalid // Docker's
	TooManyRequests = errcode.ErrorCodeTooManyRequests
	Unauthorized    = errcode.ErrorCodeUnauthorized
	Unavailable     = errcode.ErrorCodeUnavailable
	Unknown         = errcode.ErrorCodeUnknown
	Unsupported     = errcode.ErrorCodeUnsupported
)
