package main

import (
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
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/registry"
	"github.com/waveproxy/waveproxy/registry/upstream"
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

// openTokens opens the storage directory and the tokens kept in it.
func openTokens(cfg *Config) (*auth.Tokens, *blobstore.Dir, error) {
	store, err := blobstore.NewDir(cfg.Storage.Dir)
	if err != nil {
		return nil, nil, fmt.Errorf("storage.dir: %w", err)
	}
	keys, err := loadKeys(cfg)
	if err != nil {
		return nil, nil, err
	}
	tokens, err := auth.NewTokens(auth.TokensOptions{Keys: keys, Records: store, TTL: cfg.Tokens.TTL})
	return tokens, store, err
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

// newUpstream returns the client for other registries. Hosts in named are
// reached at private addresses, too, besides those in the configuration.
func newUpstream(cfg *Config, named map[string]upstream.Registry) (*upstream.Client, error) {
	registries := named
	if registries == nil {
		registries = map[string]upstream.Registry{}
	}
	static := map[string]auth.Credential{}
	for host, r := range cfg.Registries {
		registries[host] = upstream.Registry{URL: r.URL, PlainHTTP: r.PlainHTTP, CA: r.CA}
		if r.Username == "" {
			continue
		}
		password, err := r.password()
		if err != nil {
			return nil, fmt.Errorf("registries.%s.password_file: %w", host, err)
		}
		static[host] = auth.Credential{Username: r.Username, Password: password, Source: "registries." + host}
	}
	keychain := auth.Static(static)
	if cfg.DockerConfig != "" {
		docker, err := auth.DockerConfig(cfg.DockerConfig)
		if err != nil {
			return nil, fmt.Errorf("docker_config: %w", err)
		}
		keychain = auth.FirstOf(keychain, docker)
	}
	return upstream.New(upstream.Options{Registries: registries, Keychain: keychain, UserAgent: userAgent})
}

// newHandler puts the server together. host is the registry host in the image
// names that are handed out; ctx ends what runs beside requests.
func newHandler(ctx context.Context, cfg *Config, host string, log *slog.Logger) (http.Handler, error) {
	tokens, store, err := openTokens(cfg)
	if err != nil {
		return nil, err
	}
	client, err := newUpstream(cfg, nil)
	if err != nil {
		return nil, err
	}
	go func() {
		if err := store.Sweep(ctx); err != nil && ctx.Err() == nil {
			log.Warn("leftovers of crashed writers stay", "error", err)
		}
	}()
	images := registry.New(registry.Options{Tokens: tokens, Store: store, Upstream: client, Log: log})
	layers := registry.NewLayers(store, store, client, cfg.Storage.Dir, int64(cfg.Layers.MaxSize))
	resolver := registry.NewResolver(client, layers, store, cfg.Limits.Layers)
	forward, err := forwardTo(cfg)
	if err != nil {
		return nil, err
	}
	control := api.New(api.Options{
		Resolver:   resolver,
		Registries: resolver,
		Layers:     layers,
		Tokens:     tokens,
		Host:       host,
		MaxBody:    int64(cfg.API.MaxBody),
		Version:    version,
		Commit:     commit(),
		Ready:      func(ctx context.Context) error { return storageReady(ctx, store) },
		Admins:     hashes(cfg.API.Admins),
		Forward:    forward,
		// Not the client for registries: the administrator named this host, so it
		// may be at a private address.
		Client: &http.Client{},
	})
	// Not a ServeMux: that would answer "//" and ".." in image names itself,
	// with a redirect to a page.
	return registry.AccessLog(log, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := r.URL.Path; p == "/v2" || strings.HasPrefix(p, "/v2/") || strings.HasPrefix(p, "/wt/") {
			images.ServeHTTP(w, r)
			return
		}
		control.ServeHTTP(w, r)
	})), nil
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

func hashes(admins map[string]secret) map[string]string {
	plain := map[string]string{}
	for user, hash := range admins {
		plain[user] = string(hash)
	}
	return plain
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
