package recipes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/containerconfig"
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
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	names := slices.Sorted(maps.Keys(definitions))
	found := make([]recipe, len(names))
	failed := make([]error, len(names))
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i, name := range names {
		group.Go(func() error {
			found[i], failed[i] = l.compute(ctx, name, definitions[name])
			return nil // the problems of the others are wanted, too
		})
	}
	_ = group.Wait()
	if err := errors.Join(failed...); err != nil {
		return nil, err
	}
	e := &Edition{byName: map[string]recipe{}}
	for i, name := range names {
		e.byName[name] = found[i]
	}
	return e, nil
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
