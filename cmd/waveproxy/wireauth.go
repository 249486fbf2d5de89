package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/auth/acr"
	"github.com/waveproxy/waveproxy/auth/ecr"
	"github.com/waveproxy/waveproxy/auth/gar"
	"github.com/waveproxy/waveproxy/auth/oidc"
	"github.com/waveproxy/waveproxy/recipes"
	"github.com/waveproxy/waveproxy/upstream"
)

// newUpstream returns the client for other registries. Hosts in named are
// reached at private addresses, too, besides those in the configuration.
// Recipes of the book are identities of their own.
func newUpstream(cfg *Config, named map[string]upstream.Registry, book *recipes.Book) (*upstream.Client, error) {
	registries := map[string]upstream.Registry{}
	maps.Copy(registries, named)
	for name := range cfg.Registries {
		host, _, _ := strings.Cut(name, "/")
		r := cfg.Registries[host] // zero if only paths below it are listed
		registries[host] = upstream.Registry{
			URL: r.URL, PlainHTTP: r.PlainHTTP, CA: r.CA, Redirect: cmp.Or(r.Blobs, cfg.Upstreams.Blobs) == "redirect",
		}
	}
	policies := newPolicies(cfg)
	keychain, err := newKeychain(cfg, policies, book)
	if err != nil {
		return nil, err
	}
	return upstream.New(upstream.Options{
		Registries: registries, Keychain: keychain, UserAgent: userAgent,
		Allow: patterns(cfg.Upstreams.Allow), Deny: patterns(cfg.Upstreams.Deny), Concurrency: cfg.Limits.Upstream,
		Redirect: cfg.Upstreams.Blobs == "redirect", StallTimeout: cfg.Upstreams.StallTimeout,
		Permit: func(t auth.Target) error {
			if _, ok := auth.RecipeOf(t.Identity); ok {
				return nil // the registry checks the recipe's own images before it gets here
			}
			return policies.Of(t.Identity).CheckImage(t.Registry, t.Repository)
		},
	})
}

// newKeychain gives every identity the credentials that its policy names, and
// every recipe those that it names in the edition in force.
func newKeychain(cfg *Config, policies *auth.Policies, book *recipes.Book) (auth.Keychain, error) {
	common, err := sharedKeychain(cfg)
	if err != nil {
		return nil, err
	}
	sets := map[string]auth.Keychain{shared: common}
	for name, set := range cfg.Credentials {
		logins := map[string]auth.Credential{}
		for registry, login := range set.Registries {
			if logins[registry], err = login.credential("credentials." + name + ".registries." + registry); err != nil {
				return nil, fmt.Errorf("credentials.%s.registries.%s: %w", name, registry, err)
			}
		}
		if sets[name], err = withDockerConfig(auth.Static(logins), set.DockerConfig); err != nil {
			return nil, fmt.Errorf("credentials.%s.%w", name, err)
		}
	}
	return auth.ByIdentity(func(identity string) auth.Keychain {
		names := policies.Of(identity).Credentials
		if _, ok := auth.RecipeOf(identity); ok {
			names = book.Credentials(identity)
		} else if names == nil {
			return common
		}
		var own []auth.Keychain
		for _, name := range names {
			own = append(own, sets[name])
		}
		return auth.FirstOf(own...)
	}), nil
}

// sharedKeychain has the credentials that are nobody's in particular, those
// that say most about a registry first.
func sharedKeychain(cfg *Config) (auth.Keychain, error) {
	logins := map[string]auth.Credential{}
	for name, r := range cfg.Registries {
		var err error
		if logins[name], err = r.credential("registries." + name); err != nil {
			return nil, fmt.Errorf("registries.%s: %w", name, err)
		}
	}
	keychain, err := withDockerConfig(auth.Static(logins), cfg.DockerConfig)
	if err != nil {
		return nil, err
	}
	clouds, err := cloudKeychains(&cfg.Clouds)
	return auth.FirstOf(append([]auth.Keychain{keychain}, clouds...)...), err
}

func withDockerConfig(first auth.Keychain, path string) (auth.Keychain, error) {
	if path == "" {
		return first, nil
	}
	docker, err := auth.DockerConfig(path)
	if err != nil {
		return nil, fmt.Errorf("docker_config: %w", err)
	}
	return auth.FirstOf(first, docker), nil
}

func cloudKeychains(c *Clouds) ([]auth.Keychain, error) {
	var list []auth.Keychain
	add := func(registries []string, defaults []string, k auth.Keychain) {
		if len(registries) == 0 {
			registries = defaults
		}
		list = append(list, auth.Matching(patterns(registries), k))
	}
	for i, e := range c.ECR {
		o := ecr.Options{AccessKeyID: e.AccessKeyID, RoleARN: e.Role, ExternalID: e.ExternalID, Endpoint: e.Endpoint}
		if err := readGiven(e.secretAccessKey(), &o.SecretAccessKey); err != nil {
			return nil, fmt.Errorf("clouds.ecr[%d].secret_access_key: %w", i, err)
		}
		k, err := ecr.New(o)
		if err != nil {
			return nil, fmt.Errorf("clouds.ecr[%d]: %w", i, err)
		}
		add(e.Registries, []string{"*.dkr.ecr.*.amazonaws.com", "public.ecr.aws"}, k)
	}
	for i, g := range c.GAR {
		k, err := gar.New(gar.Options{KeyFile: g.KeyFile})
		if err != nil {
			return nil, fmt.Errorf("clouds.gar[%d]: %w", i, err)
		}
		add(g.Registries, []string{"*.pkg.dev", "gcr.io", "*.gcr.io"}, k)
	}
	for i, a := range c.ACR {
		// A client without tenant and secret is a machine's identity.
		managed := a.ClientID != "" && a.Tenant == "" && !a.clientSecret().given()
		o := acr.Options{TenantID: a.Tenant, ClientID: a.ClientID, ManagedIdentity: managed}
		if err := readGiven(a.clientSecret(), &o.ClientSecret); err != nil {
			return nil, fmt.Errorf("clouds.acr[%d].client_secret: %w", i, err)
		}
		k, err := acr.New(o)
		if err != nil {
			return nil, fmt.Errorf("clouds.acr[%d]: %w", i, err)
		}
		add(a.Registries, []string{"*.azurecr.io"}, k)
	}
	return list, nil
}

func readGiven(s secretSource, to *string) (err error) {
	if s.given() {
		*to, err = s.read()
	}
	return err
}

// patterns are validated when the configuration is loaded.
func patterns(texts []string) []auth.Pattern {
	var list []auth.Pattern
	for _, text := range texts {
		if p, err := auth.ParsePattern(text); err == nil {
			list = append(list, p)
		}
	}
	return list
}

// platforms are validated, and here written in one way.
func platforms(texts []string) []string {
	var list []string
	for _, text := range texts {
		if p, err := augment.ParsePlatform(text); err == nil {
			list = append(list, augment.FormatPlatform(p))
		}
	}
	return list
}

func newPolicies(cfg *Config) *auth.Policies {
	byIdentity := map[string]auth.Policy{}
	for name, i := range cfg.API.Identities {
		byIdentity[name] = auth.Policy{Images: patterns(i.Images), Platforms: platforms(i.Platforms), TTL: i.TTL, Credentials: i.Credentials}
	}
	return auth.NewPolicies(byIdentity)
}

// openHtpasswd logs when a changed file is not good; the users of before stay.
func openHtpasswd(path string, log *slog.Logger) (*auth.Passwords, error) {
	p, err := auth.OpenHtpasswd(path)
	if err != nil {
		return nil, err
	}
	p.OnReloadError = func(err error) { log.Error("the users of before stay", "file", path, "error", err) }
	return p, nil
}

// newBearer is nil unless callers log in with tokens.
func newBearer(cfg *Config) (auth.Bearer, error) {
	if cfg.API.Auth != "bearer" {
		return nil, nil
	}
	tokens := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(cfg.API.Tokens)) {
		token, err := cfg.API.Tokens[name].source().read()
		if err != nil {
			return nil, fmt.Errorf("api.tokens.%s: %w", name, err)
		}
		tokens[name] = token
	}
	static, err := auth.StaticTokens(tokens)
	if err != nil || cfg.API.OIDC.Issuer == "" {
		return static, err
	}
	o := cfg.API.OIDC
	client, err := trusting(o.CA)
	if err != nil {
		return nil, fmt.Errorf("api.oidc.ca: %w", err)
	}
	issuer := oidc.New(oidc.Options{Issuer: o.Issuer, Audience: o.Audience, Claim: o.Claim, Client: client})
	return auth.FirstBearer(static, issuer), nil
}

// trusting returns a client that trusts the certificates in a file, too.
func trusting(ca string) (*http.Client, error) {
	if ca == "" {
		return &http.Client{}, nil
	}
	text, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, err
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate in PEM form", ca)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	return &http.Client{Transport: transport}, nil
}
