package ecr

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"

	"github.com/waveproxy/waveproxy/auth/internal/cloud"
)

const (
	attempts    = 3
	sessionName = "waveproxy" // the name in CloudTrail for the assumed role
)

// config returns the SDK's configuration with the identity. It reads the environment
// and the files anew, because keys in them are replaced while the server runs.
func (k *keychain) config(ctx context.Context, region string) (aws.Config, error) {
	o := k.options
	settings := []func(*config.LoadOptions) error{
		config.WithRegion(o.Region),
		config.WithDefaultRegion(region),
		config.WithHTTPClient(k.client),
		config.WithEndpointCredentialOptions(func(o *endpointcreds.Options) { o.HTTPClient = k.client }),
		config.WithRetryMaxAttempts(attempts),
		config.WithLogger(logging.Nop{}),
	}
	if o.AccessKeyID != "" {
		static := credentials.NewStaticCredentialsProvider(o.AccessKeyID, o.SecretAccessKey, o.SessionToken)
		settings = append(settings, config.WithCredentialsProvider(static))
	}
	cfg, err := config.LoadDefaultConfig(ctx, settings...)
	if err != nil || o.RoleARN == "" {
		return cfg, err
	}
	role := stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), o.RoleARN, func(r *stscreds.AssumeRoleOptions) {
		r.RoleSessionName = sessionName
		if o.ExternalID != "" {
			r.ExternalID = &o.ExternalID
		}
	})
	cfg.Credentials = aws.NewCredentialsCache(role)
	return cfg, nil
}

// reason returns the safe part of an error of the SDK: the call that failed, and the
// answer of AWS or why there was none.
func (k *keychain) reason(ctx context.Context, err error, secrets ...string) error {
	call := operation(err)
	if call != nil {
		err = call.Err
	}
	if answer, ok := errors.AsType[smithy.APIError](err); ok {
		err = fmt.Errorf("%s: %s", answer.ErrorCode(), answer.ErrorMessage())
	}
	err = cloud.Error(ctx, err, append(secrets, k.options.SecretAccessKey, k.options.SessionToken)...)
	if call == nil {
		return err
	}
	return fmt.Errorf("%s %s: %w", call.ServiceID, call.OperationName, err)
}

// operation returns the innermost call to AWS that failed, or nil.
func operation(err error) (call *smithy.OperationError) {
	for next, ok := errors.AsType[*smithy.OperationError](err); ok; next, ok = errors.AsType[*smithy.OperationError](next.Err) {
		call = next
	}
	return call
}

// keysRefused reports whether AWS does not accept the keys, or no longer does.
func keysRefused(err error) bool {
	answer, ok := errors.AsType[smithy.APIError](err)
	return ok && slices.Contains([]string{
		"InvalidClientTokenId", "UnrecognizedClientException", "InvalidSignatureException", "SignatureDoesNotMatch",
		"ExpiredToken", "ExpiredTokenException", "AuthFailure",
	}, answer.ErrorCode())
}

const keysAdvice = "the AWS keys that this server uses are wrong, expired, or not for this partition of AWS"

// advice returns the remedy when no identity was found.
func (k *keychain) advice(err error) string {
	call := operation(err)
	_, answered := errors.AsType[smithy.APIError](err)
	switch {
	case keysRefused(err):
		return keysAdvice
	case call == nil || call.ServiceID != sts.ServiceID:
		return "configure access keys for this server, or run it where AWS gives it an identity (instance profile, IRSA, pod identity)"
	case !answered:
		return "this server must be able to reach STS to assume its role"
	case call.OperationName == "AssumeRoleWithWebIdentity":
		return "the trust policy of the role must name the cluster's OIDC provider and this server's service account"
	case k.options.ExternalID != "":
		return fmt.Sprintf("the trust policy of %s must allow this server's identity and the configured external ID", k.options.RoleARN)
	}
	return "the role's trust policy must allow this server's identity, and may ask for an external ID"
}

// advice returns the remedy when ECR gave no token.
func (a api) advice(err error) string {
	switch {
	case keysRefused(err):
		return keysAdvice
	case a.public:
		return "the identity needs ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken, and this server access to ECR's API"
	}
	return "the identity needs ecr:GetAuthorizationToken, and this server access to ECR's API"
}
