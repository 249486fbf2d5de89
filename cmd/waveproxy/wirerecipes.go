package main

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/recipes"
)

// namedRecipes makes the recipes in force what a configuration says.
type namedRecipes struct {
	started *Config // what else is in force
	book    *recipes.Book
	loader  recipes.Loader
	log     *slog.Logger
	forget  func() // forgets logins, which were made with the credentials of before
}

// apply puts the recipes of a configuration into force, or none of them and says
// all that is wrong. It must not be called by two at once.
func (n *namedRecipes) apply(ctx context.Context, cfg *Config) error {
	var p problems
	for _, name := range slices.Sorted(maps.Keys(cfg.Recipes)) {
		for _, credentials := range cfg.Recipes[name].Credentials {
			if _, known := n.started.Credentials[credentials]; !known && credentials != shared {
				p.add("recipes."+name+".credentials", credentials, "was not in credentials when the server was started, which takes a restart")
			}
		}
	}
	if err := p.err(); err != nil {
		return err
	}
	n.log.Info("reading recipes", "recipes", slices.Sorted(maps.Keys(cfg.Recipes)))
	edition, err := n.loader.Load(ctx, definitions(cfg))
	if err != nil {
		return err
	}
	changes := n.book.Replace(edition)
	n.forget()
	n.log.Info("recipes in force", "recipes", n.book.Names(), "added", changes.Added, "changed", changes.Changed, "removed", changes.Removed)
	return nil
}

// follow reloads for each signal, one after the other, until ctx ends.
func (n *namedRecipes) follow(ctx context.Context, signals <-chan os.Signal, load func() (*Config, error)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
			n.reload(ctx, load)
		}
	}
}

// reload loads the configuration anew and applies its recipes.
func (n *namedRecipes) reload(ctx context.Context, load func() (*Config, error)) {
	cfg, err := load()
	if err != nil {
		n.refuse(err)
		return
	}
	if sections := differences(n.started, cfg); len(sections) > 0 {
		n.log.Warn("other changes of the configuration take a restart", "sections", sections)
	}
	if err := n.apply(ctx, cfg); err != nil && ctx.Err() == nil {
		n.refuse(err)
	}
}

// refuse logs one line for each problem.
func (n *namedRecipes) refuse(err error) {
	for _, problem := range strings.Split(err.Error(), "\n") {
		n.log.Error("the configuration is not reloaded: the recipes stay what they were", "problem", problem)
	}
}

// differences names the sections, besides that of recipes, that are not the same.
func differences(a, b *Config) []string {
	var names []string
	others := fieldsOf(reflect.ValueOf(b).Elem())
	for name, v := range fieldsOf(reflect.ValueOf(a).Elem()) {
		if name != "recipes" && !reflect.DeepEqual(v.Interface(), others[name].Interface()) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// definitions are validated when the configuration is loaded.
func definitions(cfg *Config) map[string]recipes.Definition {
	byName := map[string]recipes.Definition{}
	for name, r := range cfg.Recipes {
		d := recipes.Definition{
			Env: r.Env, Entrypoint: r.Entrypoint, Cmd: r.Cmd, WorkingDir: r.WorkingDir,
			Images: patterns(r.Images), Credentials: r.Credentials,
		}
		for _, document := range r.ContainerConfigURL {
			d.Documents = append(d.Documents, string(document))
		}
		for _, l := range r.Layers {
			layer := recipes.Layer{Path: l.Path, Target: l.Target, URL: string(l.URL), Digest: digest.Digest(l.Digest)}
			if l.Platform != "" {
				layer.Platform = strings.Join(platforms([]string{l.Platform}), "")
			}
			d.Layers = append(d.Layers, layer)
		}
		byName[name] = d
	}
	return byName
}

// aliases are the other names of registries under a recipe's name.
func aliases(cfg *Config) map[string]string {
	byAlias := map[string]string{}
	for host, r := range cfg.Registries {
		if r.Alias != "" {
			byAlias[r.Alias] = host
		}
	}
	return byAlias
}
