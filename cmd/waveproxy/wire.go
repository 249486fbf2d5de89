package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/waveproxy/waveproxy/api"
	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/blobstore/cache"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/ratelimit"
	"github.com/waveproxy/waveproxy/recipes"
	"github.com/waveproxy/waveproxy/registry"
)

// userAgent names us to upstream registries.
const userAgent = "waveproxy/" + version

// keyFile is where the generated key is kept in the storage directory.
const keyFile = "key"

// newLogger returns the logger that the configuration asks for.
func newLogger(cfg *Config, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.Log.Level)) // validated when loaded
	options := &slog.HandlerOptions{Level: level}
	if cfg.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// storage is what the storage directory holds. Tokens and grants have the keys of
// one reading: files that are replaced in between would give them different ones.
type storage struct {
	store  *blobstore.Dir
	tokens *auth.Tokens
	grants *auth.Grants
}

// openStorage opens the storage directory and makes it if it does not exist.
func openStorage(cfg *Config) (s storage, err error) {
	if s.store, err = blobstore.NewDir(cfg.Storage.Dir); err != nil {
		return s, fmt.Errorf("storage.dir: %w", err)
	}
	keys, err := loadKeys(cfg)
	if err != nil {
		return s, err
	}
	if s.tokens, err = auth.NewTokens(auth.TokensOptions{Keys: keys, Records: s.store, TTL: cfg.Tokens.TTL}); err != nil {
		return s, err
	}
	s.grants, err = auth.NewGrants(keys, s.store)
	return s, err
}

// openTokens returns the tokens in the storage directory.
func openTokens(cfg *Config) (*auth.Tokens, error) {
	s, err := openStorage(cfg)
	return s.tokens, err
}

func loadKeys(cfg *Config) ([]auth.Key, error) {
	if len(cfg.Tokens.Keys) == 0 {
		key, err := auth.LoadOrCreateKey(filepath.Join(cfg.Storage.Dir, keyFile))
		return []auth.Key{key}, err
	}
	var keys []auth.Key
	for i, k := range cfg.Tokens.Keys {
		key, err := k.parse()
		if err != nil {
			return nil, fmt.Errorf("tokens.keys[%d]: %w", i, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// service is what a server is made of.
type service struct {
	handler http.Handler
	recipes *namedRecipes
	close   func() // when the handler's last request has ended
}

// newService puts the server together. host is the registry host in the image
// names that are handed out; ctx ends what runs beside requests. It returns when
// the recipes are in force. On an error, too, there is something to close.
func newService(ctx context.Context, cfg *Config, host string, log *slog.Logger, observe func(front.Request)) (s service, err error) {
	s.close = func() {}
	stored, err := openStorage(cfg)
	if err != nil {
		return s, err
	}
	tokens, store := stored.tokens, stored.store
	book := new(recipes.Book)
	client, err := newUpstream(cfg, nil, book)
	if err != nil {
		return s, err
	}
	go func() {
		if err := store.Sweep(ctx); err != nil && ctx.Err() == nil {
			log.Warn("leftovers of crashed writers stay", "error", err)
		}
	}()
	layers := assemble.NewLayers(store, store, client, cfg.Storage.Dir, int64(cfg.Layers.MaxSize))
	resolver := assemble.NewResolver(client, layers, store, cfg.Limits.Layers)
	resolver.Builder = auth.Builder{ID: cmp.Or(cfg.HTTP.Host, defaultHost(host, cfg.HTTP.TLS.Certificate != "")), Version: version}
	guesses := front.NewGuesses(cfg.Limits.WrongLogins)
	pulling := registry.Options{
		Tokens: tokens, Store: store, Upstream: client, Log: log,
		Guesses: guesses, Pulls: ratelimit.New(cfg.Limits.Pulls), Resolver: resolver, Aliases: aliases(cfg),
		Recipes: book, Grants: stored.grants,
	}
	if cfg.Registry.Auth == "basic" {
		if pulling.Passwords, err = openHtpasswd(cfg.Registry.Htpasswd, log); err != nil {
			return s, fmt.Errorf("registry.htpasswd: %w", err)
		}
	}
	if cfg.Cache.Size > 0 {
		if pulling.Cache, err = cache.Open(cfg.Cache.Dir, int64(cfg.Cache.Size), log); err != nil {
			return s, fmt.Errorf("cache.dir: %w", err)
		}
		s.close = func() {
			if err := pulling.Cache.Close(); err != nil {
				log.Warn("close the cache", "error", err)
			}
		}
	}
	images := registry.New(pulling)
	s.recipes = &namedRecipes{started: cfg, book: book, log: log, forget: client.ForgetLogins}
	s.recipes.loader = recipes.Loader{
		Upstream: client, Layers: layers, Store: store, Records: store, MaxInline: int64(cfg.API.MaxBody), Log: log,
	}
	if len(cfg.Recipes) > 0 {
		if err := s.recipes.apply(ctx, cfg); err != nil {
			return s, err
		}
	}
	asking := api.Options{
		Resolver:   resolver,
		Registries: resolver,
		Layers:     layers,
		Tokens:     tokens,
		Host:       host,
		MaxBody:    int64(cfg.API.MaxBody),
		Version:    version,
		Commit:     commit(),
		Ready:      func(ctx context.Context) error { return storageReady(ctx, store) },
		Policies:   newPolicies(cfg),
		Submits:    ratelimit.New(cfg.Limits.Submits),
		Guesses:    guesses,
		// Not the client for registries: the administrator named this host, so it
		// may be at a private address.
		Client: &http.Client{},
	}
	if err := addLogins(cfg, &asking, log); err != nil {
		return s, err
	}
	if asking.Forward, err = forwardTo(cfg); err != nil {
		return s, err
	}
	control := api.New(asking)
	// Not a ServeMux: that would answer "//" and ".." in image names itself,
	// with a redirect to a page.
	front := front.Front{Log: log, Proxies: proxies(cfg), Observe: observe, Stall: cfg.HTTP.StallTimeout}
	s.handler = front.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := r.URL.Path; p == "/v2" || strings.HasPrefix(p, "/v2/") || strings.HasPrefix(p, "/wt/") {
			images.ServeHTTP(w, r)
			return
		}
		control.ServeHTTP(w, r)
	}))
	return s, nil
}

// addLogins says how callers and admins of the API log in.
func addLogins(cfg *Config, o *api.Options, log *slog.Logger) (err error) {
	if cfg.API.Auth == "basic" {
		if o.Passwords, err = openHtpasswd(cfg.API.Htpasswd, log); err != nil {
			return fmt.Errorf("api.htpasswd: %w", err)
		}
	}
	if o.Bearer, err = newBearer(cfg); err != nil {
		return err
	}
	if len(cfg.API.Admins) > 0 {
		hashes := map[string]string{}
		for user, hash := range cfg.API.Admins {
			hashes[user] = string(hash)
		}
		if o.Admins, err = auth.NewPasswords(hashes); err != nil {
			return fmt.Errorf("api.admins: %w", err)
		}
	}
	return nil
}

// proxies are validated when the configuration is loaded.
func proxies(cfg *Config) front.Proxies {
	var list front.Proxies
	for _, text := range cfg.HTTP.Proxies {
		if network, err := parseNetwork(text); err == nil {
			list = append(list, network)
		}
	}
	return list
}

// forwardTo is where requests go that this server does not serve; nil for
// nowhere.
func forwardTo(cfg *Config) (*url.URL, error) {
	if cfg.API.Builds.Forward == "" {
		return nil, nil
	}
	u, err := url.Parse(cfg.API.Builds.Forward)
	if err != nil {
		return nil, fmt.Errorf("api.builds.forward: %w", err)
	}
	return u, nil
}

// storageReady reads a record that does not exist, which fails otherwise only
// when the storage cannot be read.
func storageReady(ctx context.Context, store *blobstore.Dir) error {
	if _, err := store.Record(ctx, "health/ready"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.New("the storage directory cannot be read")
	}
	return nil
}

// authority is the host, and port if any, of a URL.
func authority(rawURL string) (string, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("http.host %q is not a URL with a host", rawURL)
	}
	return u.Host, nil
}
