package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/waveproxy/waveproxy/api"
	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore/cache"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/config"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/metrics"
	"github.com/waveproxy/waveproxy/ratelimit"
	"github.com/waveproxy/waveproxy/recipes"
	"github.com/waveproxy/waveproxy/registry"
	"github.com/waveproxy/waveproxy/upstream"
)

// userAgent names us to upstream registries.
const userAgent = "waveproxy/" + version

// newLogger returns the logger that the configuration asks for.
func newLogger(cfg *config.Config, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.Log.Level.Level}
	if cfg.Log.Format == config.JSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// service is a server without its listeners.
type service struct {
	handler http.Handler
	recipes *namedRecipes
	collect func(context.Context) // collects the storage until the context ends
	close   func()                // when the handler's last request has ended
}

// parts are what the two planes share.
type parts struct {
	cfg      *config.Config
	log      *slog.Logger
	storage  storage
	upstream *upstream.Client
	book     *recipes.Book
	layers   *assemble.Layers
	resolver *assemble.Resolver
	guesses  *front.Guesses
	ready    *readiness
	policies *auth.Policies
	renewals *renewals
}

// newService puts the server together. Its recipes wait to be loaded. base is the URL
// that clients are told; ctx ends the work that runs beside requests. The service must
// be closed after an error, too.
func newService(ctx context.Context, cfg *config.Config, base config.URL, log *slog.Logger, counts *metrics.Metrics, ready *readiness) (s service, err error) {
	s.close = func() {}
	for _, warning := range cfg.Warnings() {
		log.Warn(warning)
	}
	tellProxies(cfg, log)
	p, err := newParts(cfg, base, log)
	if err != nil {
		return s, err
	}
	p.book.Await(slices.Collect(maps.Keys(cfg.Recipes)))
	p.ready = ready
	ready.book, ready.storage.probe = p.book, p.storage.probe
	go p.storage.sweep(ctx, log)
	s.collect = p.collection(counts.Collected).run
	if p.storage.bucket != nil {
		s.collect = bucketCollection{p.storage.bucket, log, counts.Collected}.run
	}
	pulls, err := p.registryOptions()
	if err != nil {
		return s, err
	}
	pulls.Names = append(names(cfg), base.Host)
	if pulls.Cache != nil {
		s.close = func() {
			if err := pulls.Cache.Close(); err != nil {
				log.Warn("cannot close the cache, the next start reads its directory anew", "error", err)
			}
		}
	}
	s.recipes = p.namedRecipes(counts.Recipes)
	requests, err := p.apiOptions(base)
	if err != nil {
		return s, err
	}
	data := registry.New(pulls)
	requests.Named, requests.Pullers = registry.NamesOf(data), pulls.Passwords
	outside := front.Front{
		Log: log, Proxies: proxies(cfg), Observe: counts.Observe, Stall: cfg.HTTP.StallTimeout,
		Ledger: budget.NewLedger(cfg.Budgets()),
	}
	s.handler = outside.Handler(planes{data: data, control: api.New(requests)})
	return s, nil
}

func newParts(cfg *config.Config, base config.URL, log *slog.Logger) (p parts, err error) {
	p = parts{cfg: cfg, log: log, book: new(recipes.Book), guesses: front.NewGuesses(cfg.Limits.WrongLogins)}
	if p.storage, err = openStorage(cfg, log); err != nil {
		return p, err
	}
	p.renewals = newRenewals(cfg, log)
	p.renewals.add("keys of tokens", func(f config.Files) []string { return f.Keys }, p.storage.renewKeys)
	if err = p.addUpstream(); err != nil {
		return p, err
	}
	store := p.storage.store
	p.layers = assemble.NewLayers(store, store, p.upstream, p.storage.local.Staging(), int64(cfg.Layers.MaxSize))
	p.layers.Room = p.storage.local.Room
	p.resolver = assemble.NewResolver(p.upstream, p.layers, store, cfg.Limits.Layers)
	p.resolver.Log = log
	p.resolver.Builder = auth.Builder{ID: base.String(), Version: version}
	return p, nil
}

// registryOptions returns the options of the data plane. The cache in them must be
// closed.
func (p parts) registryOptions() (o registry.Options, err error) {
	o = registry.Options{
		Tokens:   p.storage.tokens,
		Store:    p.storage.store,
		Upstream: p.upstream,
		Log:      p.log,
		Recipes:  p.book,
		Resolver: p.resolver,
		Grants:   p.storage.grants,
		Records:  p.storage.store,
		Aliases:  aliases(p.cfg),
		Guesses:  p.guesses,
		Pulls:    ratelimit.New(p.cfg.Limits.Pulls),
	}
	o.Platforms = func(identity string) []string { return p.policies.Of(identity).Platforms }
	if p.cfg.Registry.Auth == config.PullBasic {
		if o.Passwords, err = openHtpasswd(p.cfg.Registry.Htpasswd, p.log); err != nil {
			return o, fmt.Errorf("registry.htpasswd: %w", err)
		}
	}
	if p.cfg.Cache.Size > 0 {
		if o.Cache, err = cache.Open(p.cfg.Cache.Dir, int64(p.cfg.Cache.Size), p.log); err != nil {
			return o, fmt.Errorf("cache.dir: %w", err)
		}
	}
	return o, nil
}

// apiOptions returns the options of the control plane. The host of base begins the
// image names that it hands out.
func (p parts) apiOptions(base config.URL) (o api.Options, err error) {
	o = api.Options{
		Resolver:        p.resolver,
		Registries:      p.resolver,
		Layers:          p.layers,
		Stage:           func() api.Staging { return p.layers.Stage() },
		Tokens:          p.storage.tokens,
		Host:            base.Host,
		URL:             base.String(),
		Listed:          func(host string) bool { _, listed := p.cfg.Registries[host]; return listed },
		Names:           names(p.cfg),
		MaxBody:         int64(p.cfg.API.MaxBody),
		MaxElements:     p.cfg.Limits.Elements,
		Version:         version,
		Commit:          commit(),
		Ready:           p.ready.check,
		Policies:        p.policies,
		Submits:         ratelimit.New(p.cfg.Limits.Submits),
		Guesses:         p.guesses,
		RegistryGuesses: front.NewRegistryGuesses(p.cfg.Limits.WrongLogins),
		Forward:         p.cfg.API.Builds.Forward.Parsed(),
	}
	if o.Client, err = trusting(p.cfg, ""); err != nil {
		return o, err
	}
	return o, p.addLogins(&o)
}

// names returns what else this server may be called: by the address it listens at
// and by the machine's name.
func names(cfg *config.Config) []string {
	list := []string{string(cfg.HTTP.Addr)}
	if machine, err := os.Hostname(); err == nil {
		list = append(list, machine)
	}
	return list
}

// planes sends requests for images to the data plane and all others to the control
// plane. It is no ServeMux, which would answer "//" and ".." in image names itself,
// with a redirect to a page.
type planes struct{ data, control http.Handler }

func (p planes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if path := r.URL.Path; path == "/v2" || strings.HasPrefix(path, "/v2/") || strings.HasPrefix(path, "/wt/") {
		p.data.ServeHTTP(w, r)
		return
	}
	p.control.ServeHTTP(w, r)
}

// proxies returns the networks whose X-Forwarded-For is believed.
func proxies(cfg *config.Config) front.Proxies {
	var list front.Proxies
	for _, network := range cfg.HTTP.Proxies {
		list = append(list, network.Prefix)
	}
	return list
}
