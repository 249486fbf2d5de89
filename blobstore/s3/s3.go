package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/blobstore/internal/remote"
)

// Options say which bucket, and as whom. Name and Transport are required.
type Options struct {
	Name string
	// Prefix begins all keys. It has no slash at its ends.
	Prefix string
	// Region is the bucket's. Empty means that of the SDK, AWS_REGION or the
	// configuration file, else us-east-1.
	Region string
	// Endpoint is the URL of a storage that is not Amazon's, or of a VPC endpoint.
	Endpoint string
	// PathStyle puts the bucket's name into the path instead of the host.
	PathStyle bool
	// AccessKeyID and Secret are set both or not at all. The secret is asked for again
	// each minute, because its file may be replaced.
	AccessKeyID string
	Secret      func() (string, error)
	// RoleARN is a role that the identity assumes, with the external ID if there is one.
	RoleARN    string
	ExternalID string
	// Transport reaches the storage, and AWS.
	Transport *http.Transport
}

// Bucket implements blobstore.Objects.
type Bucket struct {
	options  Options
	client   *s3.Client
	sign     *s3.PresignClient
	partSize int64
}

var _ blobstore.Objects = (*Bucket)(nil)

const (
	attempts      = 4
	secretLife    = time.Minute
	defaultRegion = "us-east-1"
	// contentType of all objects: a browser that is sent to one does not show it.
	contentType = "application/octet-stream"
)

// Open returns the bucket. The storage is not asked for anything yet, so errors are those
// of the options and of the SDK's files.
func Open(ctx context.Context, o Options) (*Bucket, error) {
	b := &Bucket{options: o, partSize: partSize}
	// The SDK's own client, because AWS_CA_BUNDLE is added to no other.
	client := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { remote.Configure(t, o.Transport) })
	settings := []func(*config.LoadOptions) error{
		config.WithRegion(o.Region),
		config.WithDefaultRegion(defaultRegion),
		config.WithHTTPClient(client),
		config.WithEndpointCredentialOptions(func(e *endpointcreds.Options) { e.HTTPClient = client }),
		config.WithRetryMaxAttempts(attempts),
		config.WithLogger(logging.Nop{}),
	}
	if o.AccessKeyID != "" {
		settings = append(settings, config.WithCredentialsProvider(aws.NewCredentialsCache(aws.CredentialsProviderFunc(b.keys))))
	}
	cfg, err := config.LoadDefaultConfig(ctx, settings...)
	if err != nil {
		return nil, remote.Error(ctx, b.where(), "read the AWS configuration", err, "")
	}
	if o.RoleARN != "" {
		cfg.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), o.RoleARN, func(r *stscreds.AssumeRoleOptions) {
			r.RoleSessionName = "waveproxy"
			if o.ExternalID != "" {
				r.ExternalID = &o.ExternalID
			}
		}))
	}
	b.client = s3.NewFromConfig(cfg, func(s *s3.Options) {
		s.UsePathStyle = o.PathStyle
		if o.Endpoint != "" {
			s.BaseEndpoint = &o.Endpoint
		}
		// Compatible storages know no trailing checksums. The signature covers the bytes
		// that are sent, and digests those that come.
		s.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		s.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		s.DisableLogOutputChecksumValidationSkipped = true
	})
	b.sign = s3.NewPresignClient(b.client)
	return b, nil
}

// keys returns the keys of the options.
func (b *Bucket) keys(context.Context) (aws.Credentials, error) {
	secret, err := b.options.Secret()
	return aws.Credentials{
		AccessKeyID: b.options.AccessKeyID, SecretAccessKey: secret, Source: "storage.s3",
		CanExpire: true, Expires: time.Now().Add(secretLife),
	}, err
}

func (b *Bucket) key(key string) *string {
	if b.options.Prefix != "" {
		key = b.options.Prefix + "/" + key
	}
	return &key
}

// optional returns nil for "".
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Get implements blobstore.Objects. Versions are entity tags.
func (b *Bucket) Get(ctx context.Context, key string, s blobstore.Selection) (blobstore.Object, error) {
	in := &s3.GetObjectInput{Bucket: &b.options.Name, Key: b.key(key), IfMatch: optional(s.Only), IfNoneMatch: optional(s.Not)}
	if s.Length > 0 {
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", s.Offset, s.Offset+s.Length-1))
	} else if s.Offset > 0 {
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", s.Offset))
	}
	out, err := b.client.GetObject(ctx, in)
	if status(err) == http.StatusRequestedRangeNotSatisfiable && s.Offset == 0 {
		return b.empty(ctx, key, in)
	}
	if err != nil {
		return blobstore.Object{}, b.fail(ctx, "get "+key, err)
	}
	size := aws.ToInt64(out.ContentLength)
	if out.ContentRange != nil {
		_, total, _ := strings.Cut(*out.ContentRange, "/")
		if size, err = strconv.ParseInt(total, 10, 64); err != nil {
			out.Body.Close()
			return blobstore.Object{}, b.fail(ctx, "get "+key, fmt.Errorf("the answer has the range %q", *out.ContentRange))
		}
	}
	if in.Range != nil && out.ContentRange == nil && s.Offset > 0 {
		out.Body.Close()
		return blobstore.Object{}, b.fail(ctx, "get "+key, errors.New("the storage ignores ranges"))
	}
	return blobstore.Object{Body: out.Body, Size: size, Version: aws.ToString(out.ETag), Modified: aws.ToTime(out.LastModified)}, nil
}

// empty returns an object without bytes, of which no range can be given.
func (b *Bucket) empty(ctx context.Context, key string, in *s3.GetObjectInput) (blobstore.Object, error) {
	in.Range = nil
	out, err := b.client.GetObject(ctx, in)
	if err != nil {
		return blobstore.Object{}, b.fail(ctx, "get "+key, err)
	}
	return blobstore.Object{Body: out.Body, Size: aws.ToInt64(out.ContentLength), Version: aws.ToString(out.ETag), Modified: aws.ToTime(out.LastModified)}, nil
}

// Copy implements blobstore.Objects. Objects of more than 5 GiB are refused.
func (b *Bucket) Copy(ctx context.Context, from, to string) (version string, err error) {
	source := (&url.URL{Path: b.options.Name + "/" + *b.key(from)}).EscapedPath()
	out, err := b.client.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &b.options.Name, Key: b.key(to), CopySource: &source})
	if err != nil {
		return "", b.fail(ctx, "copy "+from, err)
	}
	if out.CopyObjectResult == nil {
		return "", b.fail(ctx, "copy "+from, errors.New("the answer has no version"))
	}
	return aws.ToString(out.CopyObjectResult.ETag), nil
}

// Delete implements blobstore.Objects.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.options.Name, Key: b.key(key)})
	if err = b.fail(ctx, "delete "+key, err); errors.Is(err, blobstore.ErrNotFound) {
		return nil
	}
	return err
}

// List implements blobstore.Objects.
func (b *Bucket) List(ctx context.Context, prefix string, dirs bool, each func(keys []string) error) error {
	in := &s3.ListObjectsV2Input{Bucket: &b.options.Name, Prefix: b.key(prefix)}
	if dirs {
		in.Delimiter = aws.String("/")
	}
	for pages := s3.NewListObjectsV2Paginator(b.client, in); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return b.fail(ctx, "list "+prefix, err)
		}
		if err := each(b.names(page, dirs)); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bucket) names(page *s3.ListObjectsV2Output, dirs bool) (names []string) {
	begin := *b.key("")
	for _, p := range page.CommonPrefixes {
		names = append(names, strings.TrimPrefix(aws.ToString(p.Prefix), begin))
	}
	if dirs {
		return names
	}
	for _, o := range page.Contents {
		names = append(names, strings.TrimPrefix(aws.ToString(o.Key), begin))
	}
	return names
}

// URL implements blobstore.Objects.
func (b *Bucket) URL(ctx context.Context, key string, life time.Duration) (string, error) {
	signed, err := b.sign.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: &b.options.Name, Key: b.key(key)}, s3.WithPresignExpires(life))
	if err != nil {
		return "", b.fail(ctx, "sign a URL of "+key, err)
	}
	return signed.URL, nil
}
