package gar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/auth/internal/cloud"
)

// scope is the narrowest scope that allows pulls, from Artifact Registry and from
// gcr.io alike, and the one that machines and GKE nodes have by default. The
// registry gets the token, so the token should not open the whole project
// (cloud-platform.read-only does).
const scope = "https://www.googleapis.com/auth/devstorage.read_only"

// Options select the Google identity that logs in. The zero Options mean the
// application default credentials.
type Options struct {
	// KeyFile is the path of a service account's key, or of any other file that
	// GOOGLE_APPLICATION_CREDENTIALS may name.
	KeyFile string
	// Proxy is the way to Google; nil: direct.
	Proxy func(*http.Request) (*url.URL, error)
}

// New returns the keychain. It has no credential for registries other than Google's.
// Google's tokens last an hour and are renewed when a quarter of that is left. The
// key file is read by New and at each renewal; New fails only if it cannot be used.
func New(o Options) (auth.Keychain, error) {
	k := newKeychain(o)
	if o.KeyFile != "" {
		if _, err := k.identity(context.Background()); err != nil {
			return nil, fmt.Errorf("google artifact registry: %w", cloud.Error(context.Background(), err))
		}
	}
	return k, nil
}

type keychain struct {
	options Options
	cache   *cloud.Cache
	client  *http.Client
}

func newKeychain(o Options) *keychain {
	return &keychain{options: o, cache: cloud.NewCache(nil), client: cloud.Client(cloud.Transport(o.Proxy))}
}

var hosts = regexp.MustCompile(`^(?:(?:[a-z0-9-]+\.)*gcr\.io|(?:[a-z0-9-]+\.)+pkg\.dev)$`)

func (k *keychain) Credential(ctx context.Context, target auth.Target) (auth.Credential, error) {
	if !hosts.MatchString(strings.ToLower(target.Registry)) {
		return auth.Credential{}, nil
	}
	c, err := k.cache.Get(ctx, "", k.login) // the token is the same for all registries
	if err != nil {
		return auth.Credential{}, fmt.Errorf("log in to Google for %s: %w", target.Registry, err)
	}
	return c, nil
}

func (k *keychain) login(ctx context.Context) (auth.Credential, time.Time, error) {
	client := *k.client
	client.Transport = within{ctx, k.client.Transport}
	ctx = context.WithValue(ctx, oauth2.HTTPClient, &client)
	identity, err := k.identity(ctx)
	if err != nil {
		return auth.Credential{}, time.Time{}, fmt.Errorf("find Google identity: %w; %s", reason(ctx, err), k.advice())
	}
	token, err := identity.TokenSource.Token()
	if err != nil {
		return auth.Credential{}, time.Time{}, fmt.Errorf("get an access token: %w; %s", reason(ctx, err), k.advice())
	}
	// The user name that stands for an access token in place of a password.
	return auth.Credential{
		Username: "oauth2accesstoken", Password: token.AccessToken, Source: "Google Artifact Registry",
	}, token.Expiry, nil
}

// identity returns the Google identity. It reads files and the environment anew,
// because keys are replaced while the server runs; for the same reason its
// TokenSource is used once. The metadata server is not asked through ctx's client but
// with the library's own timeouts, 5 seconds for each attempt.
func (k *keychain) identity(ctx context.Context) (*google.Credentials, error) {
	if k.options.KeyFile == "" {
		identity, err := google.FindDefaultCredentials(ctx, scope)
		if err == nil && identity.JSON != nil {
			_, err = typeOf(identity.JSON)
		}
		return identity, err
	}
	data, err := os.ReadFile(k.options.KeyFile)
	if err != nil {
		return nil, err
	}
	kind, err := typeOf(data)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", k.options.KeyFile, err)
	}
	// Any type is allowed, because the file comes from the operator, as the
	// environment does.
	identity, err := google.CredentialsFromJSONWithType(ctx, data, kind, scope)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", k.options.KeyFile, err)
	}
	return identity, nil
}

// typeOf returns the type of a credentials file. It refuses the files of OAuth
// clients, which have no type: with them the library wants to ask a person, and
// panics because it cannot.
func typeOf(file []byte) (google.CredentialsType, error) {
	var key struct {
		Type google.CredentialsType `json:"type"`
	}
	if err := json.Unmarshal(file, &key); err != nil {
		return "", fmt.Errorf("not JSON: %w", err)
	}
	if key.Type == "" {
		return "", errors.New("no credentials of a service: want a JSON file with a type, such as a service account's key")
	}
	return key.Type, nil
}

// within ends requests with ctx, because the library makes some without one.
type within struct {
	ctx  context.Context
	next http.RoundTripper
}

func (w within) RoundTrip(r *http.Request) (*http.Response, error) {
	return w.next.RoundTrip(r.WithContext(w.ctx))
}

func reason(ctx context.Context, err error) error {
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok && refused.Response != nil {
		err = cloud.Refusal(refused.Response.StatusCode, refused.Body)
	}
	return cloud.Error(ctx, err)
}

func (k *keychain) advice() string {
	if k.options.KeyFile != "" {
		return "check that the key in " + k.options.KeyFile + " still exists at Google, this server's clock, and that it reaches Google"
	}
	return "configure a key file, set GOOGLE_APPLICATION_CREDENTIALS, or run this server with a Google service account"
}
