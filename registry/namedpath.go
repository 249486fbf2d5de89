package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/front"
)

// namedRepository is a repository under the name of a recipe.
type namedRepository struct {
	name   string // of the recipe
	recipe assemble.NamedRecipe
	ref    reference.Named // the repository
	// group is the record prefix of this repository under this recipe. It includes
	// the identity, so that one identity's access never answers for another.
	group string
}

func (q namedRepository) target() auth.Target {
	return auth.Target{Identity: q.recipe.Identity, Registry: reference.Domain(q.ref), Repository: reference.Path(q.ref)}
}

// memoryKey names a tag or digest in memory. A tag has no colon, so it is never taken
// for a digest.
func (q namedRepository) memoryKey(ref string) string { return q.group + " " + ref }

// imagesDir has the records of images.
func (q namedRepository) imagesDir() string { return q.group + "/images" }

// IsImageRecord reports whether a record of that name is the record of an image, which
// Records must list.
func IsImageRecord(record string) bool {
	return strings.HasPrefix(record, "named/") && path.Base(path.Dir(record)) == "images"
}

// imageRecord names the record of the image with a root.
func (q namedRepository) imageRecord(root digest.Digest) string {
	return q.imagesDir() + "/" + root.Algorithm().String() + "-" + root.Encoded()
}

// olderRecord names the record of a digest that older versions wrote.
func (q namedRepository) olderRecord(d digest.Digest) string {
	return q.group + "/" + d.Algorithm().String() + "-" + d.Encoded()
}

// tagRecord names the record of a tag.
func (q namedRepository) tagRecord(tag string) string { return q.group + "/tags/" + hashed(tag) }

// hashed makes any text a component of a record's name.
func hashed(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}

// paths reads the paths under the names of recipes.
type paths struct {
	recipes Recipes
	aliases map[string]string // of registries
}

// parse returns the recipe and the repository that a path names. The path names
// the repository as image names do: with its registry, or of Docker Hub.
//
// ns is the registry that containerd mirrors through this server. With ns the path is the repository alone and is taken literally, even if it
// begins like the name of a registry, because mirrors have such repositories.
// Either registry may be an alias.
//
// The result is only a name to look up; the upstream's policy and dialer judge it
// like any other. Errors are refusals for the client.
func (p paths) parse(rt route, ns string) (namedRepository, error) {
	q := namedRepository{name: string(rt.token)}
	var err error
	if q.recipe, err = findRecipe(p.recipes, q.name); err != nil {
		return q, err
	}
	name := rt.name
	if first, rest, ok := strings.Cut(name, "/"); ok && ns == "" {
		name = p.registry(first) + "/" + rest
	}
	if ns != "" {
		ns = p.registry(strings.ToLower(ns))
		if host, err := auth.RegistryHost(ns); err == nil {
			ns = host
		}
		name = ns + "/" + rt.name
	}
	ref, err := auth.ParseImage(name)
	if err != nil || !reference.IsNameOnly(ref) || ns != "" && reference.Domain(ref) != ns {
		return q, front.Refuse(http.StatusNotFound, front.NameInvalid, "%.300q is not the name of a repository", auth.Redact(name))
	}
	q.ref = ref
	if images := q.recipe.Images; len(images) > 0 && !auth.MatchAny(images, reference.Domain(ref), reference.Path(ref)) {
		return q, front.Refuse(http.StatusForbidden, front.Denied, "the recipe %s is not for %s (recipes.%s.images)", q.name, ref.Name(), q.name)
	}
	q.group = "named/" + hashed(q.name+"\n"+q.recipe.Identity+"\n"+ref.Name())
	return q, nil
}

// registry returns the registry that an alias stands for, and any other name as it
// is.
func (p paths) registry(name string) string {
	if host, ok := p.aliases[name]; ok {
		return host
	}
	return name
}

// maxRecipeName is the length that the configuration allows.
const maxRecipeName = 32

// recipeRetry is when a client is told to come again for a recipe that is not loaded.
const recipeRetry = 10 * time.Second

// findRecipe returns a recipe, or the refusal for the client.
func findRecipe(recipes Recipes, name string) (assemble.NamedRecipe, error) {
	recipe, known := recipes.Recipe(name)
	switch {
	case known:
		return recipe, nil
	case recipes.Waiting(name):
		return recipe, front.Busy(recipeRetry, "the recipe %q has not been loaded yet, because what it is made of has not arrived from its origin; try again later", name)
	}
	return recipe, front.Refuse(http.StatusNotFound, front.NameUnknown, "no such recipe: %q is not in this server's configuration (recipes)", name)
}

// isRecipe tells names of recipes from tokens. Any longer component is a token,
// maybe a truncated one. It is a secret, so no message shows it.
func isRecipe(component string) bool { return len(component) <= maxRecipeName }
