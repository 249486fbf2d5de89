package ecr

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecrpublic"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/auth/internal/cloud"
)

// Options select the AWS identity that logs in. The zero Options leave the choice
// to the AWS SDK.
type Options struct {
	// AccessKeyID and SecretAccessKey are set both or not at all, and SessionToken
	// with temporary keys only.
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string
	// RoleARN is a role that the identity assumes; empty means none.
	RoleARN string
	// ExternalID is the external ID that the role's trust policy requires, if any.
	ExternalID string
	// Region is the region of STS for roles. Empty means AWS_REGION, else the
	// registry's region. ECR itself is always asked in the registry's region.
	Region string
	// Endpoint is the URL of ECR's API for private registries, for VPC endpoints
	// without private DNS. Empty means AWS's own.
	Endpoint string
	// Proxy is the way to AWS; nil: direct.
	Proxy func(*http.Request) (*url.URL, error)
}

func (o Options) validate() error {
	switch {
	case (o.AccessKeyID == "") != (o.SecretAccessKey == ""):
		return errors.New("amazon ecr: access key ID and secret access key go together: give both or none")
	case o.SessionToken != "" && o.AccessKeyID == "":
		return errors.New("amazon ecr: a session token goes with an access key ID and a secret access key")
	case o.ExternalID != "" && o.RoleARN == "":
		return errors.New("amazon ecr: an external ID goes with a role ARN")
	case o.RoleARN != "" && !strings.HasPrefix(o.RoleARN, "arn:"):
		return fmt.Errorf("amazon ecr: role %q: want an ARN: arn:aws:iam::123456789012:role/name", o.RoleARN)
	}
	if u, err := url.Parse(o.Endpoint); o.Endpoint != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
		return fmt.Errorf("amazon ecr: endpoint %q: want a URL: https://vpce-0a1b.api.ecr.eu-west-1.vpce.amazonaws.com", o.Endpoint)
	}
	return nil
}

// New returns the keychain. It has no credential for registries other than ECR's. A
// login lasts 12 hours and is renewed after 9. AWS is first asked when a credential
// is needed, so errors of New are about the options.
func New(o Options) (auth.Keychain, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	return newKeychain(o), nil
}

type keychain struct {
	options Options
	cache   *cloud.Cache
	client  *awshttp.BuildableClient // this type, because the SDK shortens its timeouts for instance metadata
}

func newKeychain(o Options) *keychain {
	client := awshttp.NewBuildableClient().
		WithTimeout(cloud.AttemptTimeout). // the SDK retrieves identities without a deadline
		WithTransportOptions(func(t *http.Transport) {
			t.DisableKeepAlives = true
			t.Proxy = cloud.Proxy(o.Proxy).Outside
		})
	return &keychain{options: o, cache: cloud.NewCache(nil), client: client}
}

func (k *keychain) Credential(ctx context.Context, target auth.Target) (auth.Credential, error) {
	a, ok := apiOf(target.Registry)
	if !ok {
		return auth.Credential{}, nil
	}
	c, err := k.cache.Get(ctx, fmt.Sprint(a), func(ctx context.Context) (auth.Credential, time.Time, error) {
		return k.login(ctx, a)
	})
	if err != nil {
		return auth.Credential{}, fmt.Errorf("log in to Amazon ECR for %s: %w", target.Registry, err)
	}
	return c, nil
}

const (
	publicHost   = "public.ecr.aws"
	publicRegion = "us-east-1" // AWS gives tokens for public registries nowhere else
)

// privateHost matches the names of private registries: account, FIPS endpoint or
// not, region. Names with dkr-ecr are the dual-stack addresses.
var privateHost = regexp.MustCompile(`^[0-9]{12}\.dkr[.-]ecr(-fips)?\.([a-z]+(?:-[a-z]+)+-[0-9]+)\.` +
	`(?:amazonaws\.(?:com|com\.cn|eu)|on\.(?:aws|amazonwebservices\.com\.cn))$`)

// api is the API of ECR that gives the login for a registry. The login depends on
// the identity and not on the account in the registry's name, so api is also the key
// of the cache.
type api struct {
	region       string
	fips, public bool
}

func apiOf(registry string) (api, bool) {
	registry = strings.ToLower(registry)
	if registry == publicHost {
		return api{region: publicRegion, public: true}, true
	}
	match := privateHost.FindStringSubmatch(registry)
	if match == nil {
		return api{}, false
	}
	return api{region: match[2], fips: match[1] != ""}, true
}

func (k *keychain) login(ctx context.Context, a api) (auth.Credential, time.Time, error) {
	cfg, err := k.config(ctx, a.region)
	if err != nil {
		return auth.Credential{}, time.Time{}, fmt.Errorf("read AWS configuration: %w", k.reason(ctx, err))
	}
	// Not left to the call below, because a failure of the identity has other
	// remedies than a failure of ECR.
	identity, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return auth.Credential{}, time.Time{}, fmt.Errorf("find AWS identity: %w; %s", k.reason(ctx, err), k.advice(err))
	}
	ask := k.askPrivate
	if a.public {
		ask = askPublic
	}
	token, expires, err := ask(ctx, cfg, a)
	if err != nil {
		reason := k.reason(ctx, err, identity.SecretAccessKey, identity.SessionToken)
		return auth.Credential{}, time.Time{}, fmt.Errorf("in %s: %w; %s", a.region, reason, a.advice(err))
	}
	user, err := base64.StdEncoding.DecodeString(token)
	name, password, ok := strings.Cut(string(user), ":")
	if err != nil || !ok || password == "" {
		return auth.Credential{}, time.Time{}, fmt.Errorf("in %s: GetAuthorizationToken answered with no base64 of user:password", a.region)
	}
	return auth.Credential{Username: name, Password: password, Source: "Amazon ECR"}, expires, nil
}

func (k *keychain) askPrivate(ctx context.Context, cfg aws.Config, a api) (string, time.Time, error) {
	client := ecr.NewFromConfig(cfg, func(o *ecr.Options) {
		o.Region = a.region
		switch {
		case k.options.Endpoint != "":
			o.BaseEndpoint = &k.options.Endpoint // the SDK refuses it together with FIPS
		case a.fips:
			o.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateEnabled
		}
	})
	out, err := client.GetAuthorizationToken(ctx, &ecr.GetAuthorizationTokenInput{})
	if err != nil || len(out.AuthorizationData) == 0 {
		return "", time.Time{}, err
	}
	data := out.AuthorizationData[0]
	return aws.ToString(data.AuthorizationToken), aws.ToTime(data.ExpiresAt), nil
}

func askPublic(ctx context.Context, cfg aws.Config, a api) (string, time.Time, error) {
	client := ecrpublic.NewFromConfig(cfg, func(o *ecrpublic.Options) { o.Region = a.region })
	out, err := client.GetAuthorizationToken(ctx, &ecrpublic.GetAuthorizationTokenInput{})
	if err != nil || out.AuthorizationData == nil {
		return "", time.Time{}, err
	}
	return aws.ToString(out.AuthorizationData.AuthorizationToken), aws.ToTime(out.AuthorizationData.ExpiresAt), nil
}
