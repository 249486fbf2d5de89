package main

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/config"
	"github.com/waveproxy/waveproxy/recipes"
)

// namedRecipes puts the recipes of configurations into force.
type namedRecipes struct {
	startConfig  *config.Config // what needs a restart stays as it says
	renewals     *renewals
	book         *recipes.Book
	loader       recipes.Loader
	log          *slog.Logger
	forgetLogins func() // forgets the logins that were made with the previous credentials
	told         func(loaded, waiting []string)

	waiting map[string]recipes.Definition // the recipes that are still to be loaded
	delay   time.Duration                 // until they are tried again
}

// Recipes whose upstream does not answer are tried again after these times, doubled
// each time. A layer may have gigabytes, and its upstream may be down for days.
var firstRetry = 5 * time.Second // tests shorten it

const lastRetry = 5 * time.Minute

// start puts the recipes that the server starts with into force, each as soon as it is
// loaded. Recipes whose upstream does not answer wait; any other problem is an error.
func (n *namedRecipes) start(ctx context.Context) error {
	if len(n.startConfig.Recipes) == 0 {
		return nil
	}
	n.log.Info("reading recipes", "recipes", slices.Sorted(maps.Keys(n.startConfig.Recipes)))
	n.waiting, n.delay = definitions(n.startConfig), firstRetry
	return n.try(ctx)
}

// try loads the recipes that wait.
func (n *namedRecipes) try(ctx context.Context) error {
	before := len(n.waiting)
	failed := n.loader.LoadEach(ctx, n.book, n.waiting)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var wrong []error
	for _, name := range slices.Sorted(maps.Keys(n.waiting)) {
		switch err := failed[name]; {
		case err == nil:
			delete(n.waiting, name)
		case recipes.MayPass(err):
			for _, problem := range strings.Split(err.Error(), "\n") {
				n.log.Warn("a recipe is not loaded, its pulls are refused until it is", "recipe", name, "problem", problem, "retry", n.delay.String())
			}
		default:
			wrong = append(wrong, err)
		}
	}
	n.forgetLogins()
	n.told(n.book.Names(), n.book.WaitingNames())
	if len(n.waiting) < before {
		n.log.Info("recipes in force", "recipes", n.book.Names(), "waiting", n.book.WaitingNames())
	}
	return errors.Join(wrong...)
}

// retry is try for a server that is running. What has become wrong meanwhile is
// logged, and tried again: the person who mends a file expects no restart.
func (n *namedRecipes) retry(ctx context.Context) {
	n.delay = min(2*n.delay, lastRetry)
	if err := n.try(ctx); err != nil && ctx.Err() == nil {
		for _, problem := range strings.Split(err.Error(), "\n") {
			n.log.Error("a recipe is not loaded, its pulls are refused until it is", "problem", problem, "retry", n.delay.String())
		}
	}
}

// apply puts all recipes of a configuration into force, or none and returns all
// that is wrong with them. It is not safe for concurrent use.
func (n *namedRecipes) apply(ctx context.Context, cfg *config.Config) error {
	n.log.Info("reading recipes", "recipes", slices.Sorted(maps.Keys(cfg.Recipes)))
	edition, err := n.loader.Load(ctx, definitions(cfg))
	if err != nil {
		return err
	}
	changes := n.book.Replace(edition)
	n.waiting = nil
	n.forgetLogins()
	n.told(n.book.Names(), nil)
	n.log.Info("recipes in force", "recipes", n.book.Names(), "added", changes.Added, "changed", changes.Changed, "removed", changes.Removed)
	return nil
}

// namedRecipes returns the recipes, none of which is in force yet.
func (p parts) namedRecipes(told func(loaded, waiting []string)) *namedRecipes {
	return &namedRecipes{startConfig: p.cfg, renewals: p.renewals, book: p.book, log: p.log, forgetLogins: p.upstream.ForgetLogins, told: told, loader: recipes.Loader{
		Upstream: p.upstream, Layers: p.layers, Store: p.storage.store, Records: p.storage.store,
		MaxInline: int64(p.cfg.API.MaxBody), Log: p.log,
	}}
}

// follow reloads for each signal, and loads recipes that wait, one after the other,
// until ctx ends.
func (n *namedRecipes) follow(ctx context.Context, signals <-chan os.Signal, load func() (*config.Config, error)) {
	for {
		var again <-chan time.Time
		if len(n.waiting) > 0 {
			again = time.After(n.delay)
		}
		select {
		case <-ctx.Done():
			return
		case <-signals:
			notifyReloading(n.log)
			n.reload(ctx, load)
			notifyReady(n.log)
		case <-again:
			n.retry(ctx)
		}
	}
}

// reload loads the configuration anew and applies what needs no restart.
func (n *namedRecipes) reload(ctx context.Context, load func() (*config.Config, error)) {
	cfg, err := load()
	if err != nil {
		n.refuse(err)
		return
	}
	if sections := config.Differences(n.startConfig.WithRenewed(cfg), cfg); len(sections) > 0 {
		n.log.Warn("the configuration changed in keys that are read at the start only: restart to apply them", "sections", sections)
	}
	n.renewals.reload(cfg)
	if err := n.apply(ctx, cfg); err != nil && ctx.Err() == nil {
		n.refuse(err)
	}
}

// refuse logs one line for each problem.
func (n *namedRecipes) refuse(err error) {
	for _, problem := range strings.Split(err.Error(), "\n") {
		n.log.Error("reload failed, keeping the previous recipes", "problem", problem)
	}
}

// definitions returns the recipes of a configuration in the form of their package.
func definitions(cfg *config.Config) map[string]recipes.Definition {
	byName := map[string]recipes.Definition{}
	for name, r := range cfg.Recipes {
		d := recipes.Definition{
			Env: variables(r.Env), ExtendEnv: variables(r.ExtendEnv), Entrypoint: r.Entrypoint, Cmd: r.Cmd, WorkingDir: r.WorkingDir,
			Images: r.Images, Credentials: r.Credentials, TagTTL: r.TagTTL, Plain: r.Unfit == config.UnfitPlain,
			Certificates: r.Certificates,
		}
		for _, document := range r.ContainerConfigURL {
			d.Documents = append(d.Documents, string(document))
		}
		for _, l := range r.Layers {
			d.Layers = append(d.Layers, recipes.Layer{
				Path: l.Path, Target: l.Target, URL: string(l.URL), Digest: digest.Digest(l.Digest), Platform: string(l.Platform),
				OwnModes: l.KeepModes.Off(),
			})
		}
		byName[name] = d
	}
	return byName
}

// aliases returns the hosts of registries by their other names under a recipe's name.
func aliases(cfg *config.Config) map[string]string {
	byAlias := map[string]string{}
	for host, r := range cfg.Registries {
		if r.Alias != "" {
			byAlias[r.Alias] = host
		}
	}
	return byAlias
}

// variables returns the environment as it is.
func variables(env []config.Variable) []string {
	var all []string
	for _, v := range env {
		all = append(all, string(v))
	}
	return all
}
