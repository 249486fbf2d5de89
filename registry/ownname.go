package registry

import (
	"context"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
)

// Names tells the API what the names of recipes stand for. It is safe for concurrent
// use.
type Names struct {
	named   *named // nil without recipes
	options Options
}

// NamesOf returns the names of the server's recipes.
func NamesOf(s *Server) Names { return Names{s.named, s.options} }

// Named returns what a pull through a recipe would give: of the repository, or of a
// digest there, which is this server's or the upstream's. ok is false if the first
// component is not the name of a recipe but a token. The error is the one of a pull.
func (s Names) Named(ctx context.Context, component, repository string, d digest.Digest) (named assemble.NamedImage, ok bool, err error) {
	if s.named == nil || !isRecipe(component) || !s.options.Recipes.Enabled() {
		return named, false, nil
	}
	q, err := s.named.paths.parse(route{token: auth.Token(component), name: repository}, "")
	if err != nil {
		return named, true, err
	}
	if err := s.options.Upstream.Check(q.target()); err != nil {
		return named, true, err
	}
	named = assemble.NamedImage{Ref: q.ref, Recipe: q.recipe.Recipe}
	if d == "" {
		return named, true, nil
	}
	img, err := s.named.ledger.imageOf(ctx, q, d)
	if err == nil && img != nil {
		err = permit(ctx, s.options.Upstream, img)
	}
	if err != nil {
		return named, true, err
	}
	if img != nil {
		named.Grant = img.grant
		return named, true, nil
	}
	named.Recipe = augment.Recipe{} // the upstream has it, and a pull passes it on
	named.Ref, err = reference.WithDigest(q.ref, d)
	return named, true, err
}
