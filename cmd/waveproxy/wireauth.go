package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/waveproxy/waveproxy/api"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/auth/acr"
	"github.com/waveproxy/waveproxy/auth/ecr"
	"github.com/waveproxy/waveproxy/auth/gar"
	"github.com/waveproxy/waveproxy/auth/oidc"
	"github.com/waveproxy/waveproxy/config"
	"github.com/waveproxy/waveproxy/recipes"
	"github.com/waveproxy/waveproxy/upstream"
)

// newUpstream returns the client for other registries. Hosts in named are reached
// at private addresses, too, as the hosts in the configuration are. Recipes of the
// book are identities of their own.
func newUpstream(cfg *config.Config, named map[string]upstream.Registry, book *recipes.Book) (*upstream.Client, error) {
	policies := newPolicies(cfg)
	keychain, err := newKeychain(cfg, policies, book)
	if err != nil {
		return nil, err
	}
	o, err := upstreamOptions(cfg, named, policies, keychain)
	if err != nil {
		return nil, err
	}
	return upstream.New(o)
}

// addUpstream makes the client of the server, and the renewal of what it has of files.
func (p *parts) addUpstream() error {
	p.policies = newPolicies(p.cfg)
	var inForce keychainInForce
	keychain := func(cfg *config.Config) error {
		k, err := newKeychain(cfg, p.policies, p.book)
		if err == nil {
			inForce.Store(&k)
		}
		return err
	}
	if err := keychain(p.cfg); err != nil {
		return err
	}
	o, err := upstreamOptions(p.cfg, nil, p.policies, &inForce)
	if err != nil {
		return err
	}
	if p.upstream, err = upstream.New(o); err != nil {
		return err
	}
	client, policies := p.upstream, p.policies
	p.renewals.add("logins of registries", func(f config.Files) []string { return f.Logins }, func(cfg *config.Config) error {
		defer client.ForgetLogins() // also those that a Docker config.json gave
		return keychain(cfg)
	})
	p.renewals.add("certificates and proxies for registries", func(f config.Files) []string { return f.Trust }, func(cfg *config.Config) error {
		o, err := upstreamOptions(cfg, nil, policies, &inForce)
		if err != nil {
			return err
		}
		return client.Renew(o)
	})
	return nil
}

func upstreamOptions(cfg *config.Config, named map[string]upstream.Registry, policies *auth.Policies, keychain auth.Keychain) (o upstream.Options, err error) {
	proxy, err := newProxy(cfg)
	if err != nil {
		return o, err
	}
	registries := map[string]upstream.Registry{}
	maps.Copy(registries, named)
	for name := range cfg.Registries {
		host, _, _ := strings.Cut(name, "/")
		r := cfg.Registries[host] // zero if only paths below it are listed
		registries[host] = upstream.Registry{
			URL: r.URL.String(), PlainHTTP: r.PlainHTTP, CA: r.CA, ClientCert: r.ClientCert, ClientKey: r.ClientKey,
			Redirect: cmp.Or(r.Blobs, cfg.Upstreams.Blobs) == config.Redirect, Files: r.Files, Proxy: proxyTo(cfg, r.Proxy, proxy),
		}
	}
	return upstream.Options{
		Registries: registries, Proxy: proxy, CA: cfg.Upstreams.CA, Keychain: keychain, UserAgent: userAgent,
		Allow: cfg.Upstreams.Allow, Deny: cfg.Upstreams.Deny, Concurrency: cfg.Limits.Upstream,
		Redirect: cfg.Upstreams.Blobs == config.Redirect, StallTimeout: cfg.Upstreams.StallTimeout,
		Permit: func(t auth.Target) error {
			if _, ok := auth.RecipeOf(t.Identity); ok {
				return nil // the registry checks the recipe's own images before it gets here
			}
			return policies.Of(t.Identity).CheckImage(t.Registry, t.Repository)
		},
	}, nil
}

// newKeychain returns a keychain that gives every identity the credentials that
// its policy names, and every recipe the ones that its edition in force names.
func newKeychain(cfg *config.Config, policies *auth.Policies, book *recipes.Book) (auth.Keychain, error) {
	common, err := sharedKeychain(cfg)
	if err != nil {
		return nil, err
	}
	sets := map[string]auth.Keychain{config.Shared: common}
	for name, set := range cfg.Credentials {
		logins := map[string]auth.Credential{}
		for registry, login := range set.Registries {
			if logins[registry], err = login.Credential("credentials." + name + ".registries." + registry); err != nil {
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
			if set, known := sets[name]; known { // else a reload is between policies and logins
				own = append(own, set)
			}
		}
		return auth.FirstOf(own...)
	}), nil
}

// sharedKeychain returns the credentials of registries, docker_config and clouds,
// in this order: the ones that say most about a registry come first.
func sharedKeychain(cfg *config.Config) (auth.Keychain, error) {
	logins := map[string]auth.Credential{}
	for name, r := range cfg.Registries {
		var err error
		if logins[name], err = r.Credential("registries." + name); err != nil {
			return nil, fmt.Errorf("registries.%s: %w", name, err)
		}
	}
	keychain, err := withDockerConfig(auth.Static(logins), cfg.DockerConfig)
	if err != nil {
		return nil, err
	}
	proxy, err := proxyFunc(cfg)
	if err != nil {
		return nil, err
	}
	clouds, err := cloudKeychains(&cfg.Clouds, proxy)
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

// cloudKeychains returns the keychains of the clouds, each for its registries.
func cloudKeychains(c *config.Clouds, proxy proxyOf) ([]auth.Keychain, error) {
	var list []auth.Keychain
	for i, e := range c.ECR {
		secret, err := e.Secret()
		if err != nil {
			return nil, fmt.Errorf("clouds.ecr[%d].secret_access_key: %w", i, err)
		}
		k, err := ecr.New(ecr.Options{
			AccessKeyID: e.AccessKeyID, SecretAccessKey: secret, RoleARN: e.Role, ExternalID: e.ExternalID, Endpoint: e.Endpoint.String(),
			Proxy: proxy,
		})
		if err != nil {
			return nil, fmt.Errorf("clouds.ecr[%d]: %w", i, err)
		}
		list = append(list, auth.Matching(e.Patterns(), k))
	}
	for i, g := range c.GAR {
		k, err := gar.New(gar.Options{KeyFile: g.KeyFile, Proxy: proxy})
		if err != nil {
			return nil, fmt.Errorf("clouds.gar[%d]: %w", i, err)
		}
		list = append(list, auth.Matching(g.Patterns(), k))
	}
	for i, a := range c.ACR {
		secret, err := a.Secret()
		if err != nil {
			return nil, fmt.Errorf("clouds.acr[%d].client_secret: %w", i, err)
		}
		k, err := acr.New(acr.Options{TenantID: a.Tenant, ClientID: a.ClientID, ClientSecret: secret, ManagedIdentity: a.ManagedIdentity(), Proxy: proxy})
		if err != nil {
			return nil, fmt.Errorf("clouds.acr[%d]: %w", i, err)
		}
		list = append(list, auth.Matching(a.Patterns(), k))
	}
	return list, nil
}

// newPolicies returns what each identity may do.
func newPolicies(cfg *config.Config) *auth.Policies { return auth.NewPolicies(policiesOf(cfg)) }

func policiesOf(cfg *config.Config) map[string]auth.Policy {
	byIdentity := map[string]auth.Policy{}
	for name, i := range cfg.API.Identities {
		p := auth.Policy{Images: i.Images, TTL: i.TTL, Credentials: i.Credentials}
		for _, platform := range i.Platforms {
			p.Platforms = append(p.Platforms, string(platform))
		}
		byIdentity[name] = p
	}
	return byIdentity
}

// openHtpasswd returns the users of a file, which is read again when it changes.
// A changed file with a mistake is logged, and the previous users stay.
func openHtpasswd(path string, log *slog.Logger) (*auth.Passwords, error) {
	p, err := auth.OpenHtpasswd(path)
	if err != nil {
		return nil, err
	}
	p.OnReloadError = func(err error) {
		log.Error("htpasswd reload failed, keeping the previous users", "file", path, "error", err)
	}
	return p, nil
}

// newBearer returns nil unless callers log in with tokens.
func newBearer(cfg *config.Config, log *slog.Logger) (auth.Bearer, error) {
	if cfg.API.Auth != config.APIBearer {
		return nil, nil
	}
	tokens := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(cfg.API.Tokens)) {
		token, err := cfg.API.Tokens[name].Read()
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
	client, err := trusting(cfg, o.CA)
	if err != nil {
		return nil, fmt.Errorf("api.oidc: %w", err)
	}
	issuer := oidc.New(oidc.Options{Issuer: string(o.Issuer), Audience: o.Audience, Claim: o.Claim, Client: client})
	taken, err := namesOf(cfg, log)
	if err != nil {
		return nil, err
	}
	return auth.FirstBearer(static, auth.Apart(issuer, taken)), nil
}

// namesOf reports the names of tokens, admins and users of files, whichever plane
// they log in to.
func namesOf(cfg *config.Config, log *slog.Logger) (taken func(string) bool, err error) {
	var files []*auth.Passwords
	for _, path := range slices.Compact([]string{cfg.API.Htpasswd, cfg.Registry.Htpasswd}) {
		if path == "" {
			continue
		}
		users, err := openHtpasswd(path, log)
		if err != nil {
			return nil, fmt.Errorf("api.oidc: users of the file %s: %w", path, err)
		}
		files = append(files, users)
	}
	return func(name string) bool {
		_, token := cfg.API.Tokens[name]
		_, admin := cfg.API.Admins[name]
		return token || admin || slices.ContainsFunc(files, func(users *auth.Passwords) bool { return users.Has(name) })
	}, nil
}

// addLogins sets how callers and admins of the API log in.
func (p parts) addLogins(o *api.Options) error {
	cfg := p.cfg
	var err error
	if cfg.API.Auth == config.APIBasic {
		if o.Passwords, err = openHtpasswd(cfg.API.Htpasswd, p.log); err != nil {
			return fmt.Errorf("api.htpasswd: %w", err)
		}
	}
	var inForce bearerInForce
	bearer, err := newBearer(cfg, p.log)
	if err != nil {
		return err
	}
	if bearer != nil {
		inForce.Store(&bearer)
		o.Bearer = &inForce
	}
	var admins *auth.Passwords
	if len(cfg.API.Admins) > 0 {
		if admins, err = auth.NewPasswords(adminsOf(cfg)); err != nil {
			return fmt.Errorf("api.admins: %w", err)
		}
		o.Admins = admins
	}
	p.renewals.add("tokens, admins and identities of the API", func(f config.Files) []string { return f.Callers }, func(now *config.Config) error {
		bearer, err := newBearer(now, p.log)
		if err != nil {
			return err
		}
		if admins != nil {
			if err := admins.Replace(adminsOf(now)); err != nil {
				return fmt.Errorf("api.admins: %w", err)
			}
		}
		if bearer != nil {
			inForce.Store(&bearer)
		}
		p.policies.Replace(policiesOf(now))
		return nil
	})
	return nil
}

func adminsOf(cfg *config.Config) map[string]string {
	hashes := map[string]string{}
	for user, hash := range cfg.API.Admins {
		hashes[user] = string(hash)
	}
	return hashes
}
