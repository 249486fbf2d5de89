package recipes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/containerconfig"
	"github.com/waveproxy/waveproxy/internal/durable"
	"github.com/waveproxy/waveproxy/upstream"
)

// Upstream fetches URLs. upstream.Client is one.
type Upstream interface {
	Fetch(ctx context.Context, url string) (body *upstream.Fetched, size int64, err error)
}

// Layers takes layers in. assemble.Layers is one.
type Layers interface {
	containerconfig.Layers
	Local(ctx context.Context, r io.Reader, name string, want assemble.Expected) (augment.Layer, error)
}

// Loader makes recipes of definitions. It is safe for concurrent use.
type Loader struct {
	Upstream  Upstream
	Layers    Layers
	Store     blobstore.Store  // the store behind Layers
	Records   assemble.Records // keeps copies of documents
	MaxInline int64            // largest layer inside a document, in bytes
	Log       *slog.Logger
}

const (
	// loadTimeout bounds the loading of an edition.
	loadTimeout = 30 * time.Minute
	// atOnce is the number of recipes, and of one recipe's documents, that are read at
	// a time.
	atOnce = 4
	// maxText bounds the environment, entrypoint and command of a recipe, in
	// bytes: they are in every grant, which has a bound of its own.
	maxText = 128 << 10
)

// Load returns the recipes of the definitions. The error lists the problems of all
// of them, one a line, by the keys of the configuration.
func (l Loader) Load(ctx context.Context, definitions map[string]Definition) (*Edition, error) {
	e := &Edition{byName: map[string]recipe{}}
	var mu sync.Mutex
	failed := l.each(ctx, definitions, func(name string, r recipe) {
		mu.Lock()
		defer mu.Unlock()
		e.byName[name] = r
	})
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(failed)) {
		problems = append(problems, failed[name])
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return e, nil
}

// LoadEach puts each recipe of the definitions for which the book waits into force as
// soon as it is loaded. It returns the problems of the others by their names.
func (l Loader) LoadEach(ctx context.Context, book *Book, definitions map[string]Definition) map[string]error {
	return l.each(ctx, definitions, book.put)
}

// each loads recipes and returns the problems by name. It calls loaded concurrently.
func (l Loader) each(ctx context.Context, definitions map[string]Definition, loaded func(string, recipe)) map[string]error {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	failed := map[string]error{}
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, name := range slices.Sorted(maps.Keys(definitions)) {
		group.Go(func() error {
			r, err := l.compute(ctx, name, definitions[name])
			if err == nil {
				loaded(name, r)
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			failed[name] = err
			return nil // the problems of the others are wanted, too
		})
	}
	_ = group.Wait()
	return failed
}

// MayPass reports whether a problem of a recipe is only that an upstream does not
// answer as it should, or that the storage is full: the same recipe may be loaded
// later. It is false if a person has to change the recipe or a file.
func MayPass(err error) bool {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		return !slices.ContainsFunc(all.Unwrap(), func(e error) bool { return !MayPass(e) })
	}
	_, full := errors.AsType[*durable.Full](err)
	return full || upstream.IsTransient(err)
}

// compute returns one recipe, or all of its problems.
func (l Loader) compute(ctx context.Context, name string, d Definition) (recipe, error) {
	key := "recipes." + name
	var problems []error
	problem := func(key string, err error) { problems = append(problems, fmt.Errorf("%s: %w", key, err)) }
	found, failed := l.readAll(ctx, d.Documents)
	failed = append(failed, containerconfig.Conflicts(found)...)
	var layers []augment.Layer
	for _, doc := range found {
		taken, refused := l.layersOf(ctx, doc)
		layers = append(layers, taken...)
		failed = append(failed, refused...)
	}
	for _, err := range failed {
		problem(key+".container_config_url", err)
	}
	for i, layer := range d.Layers {
		taken, err := l.take(ctx, layer)
		if err != nil {
			problem(fmt.Sprintf("%s.layers[%d]", key, i), err)
		}
		layers = append(layers, taken)
	}
	certificates := l.certificates(d.Certificates, func(i int, err error) { problem(fmt.Sprintf("%s.certificates[%d]", key, i), err) })
	own := containerconfig.Config{Certificates: certificates, Env: d.Env, ExtendEnv: d.ExtendEnv, Entrypoint: d.Entrypoint, Cmd: d.Cmd, WorkingDir: d.WorkingDir}
	settings := own.Over(containerconfig.Merge(found))
	made := settings.Recipe()
	made.Layers, made.Plain = layers, d.Plain
	if n := settings.TextSize(); n > maxText {
		problem(key, fmt.Errorf("%d bytes of environment, certificates, entrypoint and command, and at most %d are taken: put large ones into a layer", n, maxText))
	} else if err := made.Validate(); err != nil {
		problem(key, err)
	}
	if len(problems) > 0 {
		return recipe{}, errors.Join(problems...)
	}
	l.keep(ctx, found)
	return recipe{assemble.NamedRecipe{Recipe: made, Images: d.Images, Identity: auth.RecipeIdentity(name), TagTTL: d.TagTTL}, d.Credentials}, nil
}
