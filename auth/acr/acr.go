package acr

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azcloud "github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/log"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/containers/azcontainerregistry"
	"github.com/golang-jwt/jwt/v5"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/auth/internal/cloud"
)

// When AZURE_SDK_GO_LOGGING is set, the SDK logs to standard error and quotes the
// answers behind its errors. Without a listener it logs nothing.
func init() { log.SetListener(nil) }

// New returns the keychain. It has no credential for registries other than Azure's.
// Each registry's token lasts three hours and is renewed when a quarter of that is
// left. Azure is first asked when a credential is needed, so errors of New are about
// the options.
func New(o Options) (auth.Keychain, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	return newKeychain(o), nil
}

type keychain struct {
	options Options
	cache   *cloud.Cache
	client  *http.Client
}

func newKeychain(o Options) *keychain {
	return &keychain{options: o, cache: cloud.NewCache(nil), client: cloud.Client(cloud.Transport(o.Proxy))}
}

var hosts = regexp.MustCompile(`^(?:[a-z0-9-]+\.)+azurecr\.(io|cn|us)$`)

var clouds = map[string]azcloud.Configuration{
	"io": azcloud.AzurePublic, "cn": azcloud.AzureChina, "us": azcloud.AzureGovernment,
}

func (k *keychain) Credential(ctx context.Context, target auth.Target) (auth.Credential, error) {
	host := strings.ToLower(target.Registry)
	match := hosts.FindStringSubmatch(host)
	if match == nil {
		return auth.Credential{}, nil
	}
	c, err := k.cache.Get(ctx, host, func(ctx context.Context) (auth.Credential, time.Time, error) {
		return k.login(ctx, host, clouds[match[1]])
	})
	if err != nil {
		return auth.Credential{}, fmt.Errorf("log in to Azure for %s: %w", target.Registry, err)
	}
	return c, nil
}

func (k *keychain) login(ctx context.Context, host string, where azcloud.Configuration) (auth.Credential, time.Time, error) {
	settings := azcore.ClientOptions{
		Cloud:     where,
		Transport: k.client,
		Retry:     policy.RetryOptions{MaxRetries: 2, RetryDelay: time.Second, MaxRetryDelay: 5 * time.Second},
	}
	identity, err := k.options.identity(settings)
	if err != nil {
		return auth.Credential{}, time.Time{}, fmt.Errorf("find Azure identity: %w; %s", k.reason(ctx, err), advice)
	}
	audience := where.Services[azcontainerregistry.ServiceName].Audience
	access, err := identity.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{audience + "/.default"}})
	if err != nil {
		return auth.Credential{}, time.Time{}, fmt.Errorf("get an access token for the %s: %w; %s", identity.name, k.reason(ctx, err), identity.advice)
	}
	refresh, err := exchange(ctx, host, access.Token, settings)
	if err != nil {
		return auth.Credential{}, time.Time{}, fmt.Errorf(
			"exchange the access token of the %s at %s: %w; the identity needs the role AcrPull on the registry, and this server access to it",
			identity.name, host, k.reason(ctx, err, access.Token))
	}
	return auth.Credential{
		Username: noUser, IdentityToken: refresh, Source: "Azure ACR",
	}, expiry(refresh), nil
}

// noUser is the user name that goes with a token.
const noUser = "00000000-0000-0000-0000-000000000000"

func exchange(ctx context.Context, host, access string, settings azcore.ClientOptions) (string, error) {
	client, err := azcontainerregistry.NewAuthenticationClient("https://"+host, &azcontainerregistry.AuthenticationClientOptions{ClientOptions: settings})
	if err != nil {
		return "", err
	}
	answer, err := client.ExchangeAADAccessTokenForACRRefreshToken(ctx, azcontainerregistry.PostContentSchemaGrantTypeAccessToken, host,
		&azcontainerregistry.AuthenticationClientExchangeAADAccessTokenForACRRefreshTokenOptions{AccessToken: &access})
	if err != nil {
		return "", err
	}
	if answer.RefreshToken == nil || *answer.RefreshToken == "" {
		return "", errors.New("the answer has no refresh token")
	}
	return *answer.RefreshToken, nil
}

// expiry returns the expiry of a token, or the zero time if it has none. It leaves
// the signature to the registry.
func expiry(token string) time.Time {
	var claims jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(token, &claims); err != nil || claims.ExpiresAt == nil {
		return time.Time{}
	}
	return claims.ExpiresAt.Time
}

// reason returns the safe part of an error of the SDK, whose own text quotes the
// whole answer.
func (k *keychain) reason(ctx context.Context, err error, secrets ...string) error {
	var resp *http.Response
	if e, ok := errors.AsType[*azidentity.AuthenticationFailedError](err); ok {
		resp = e.RawResponse
	}
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok {
		resp = e.RawResponse
	}
	if resp != nil {
		// Without a readable body the status is left, which says enough.
		body, _ := runtime.Payload(resp)
		err = cloud.Refusal(resp.StatusCode, body)
	}
	return cloud.Error(ctx, err, append(secrets, k.options.secrets()...)...)
}
