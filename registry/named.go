package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/distribution/reference"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/singleflight"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/front"
)

// Recipe is a recipe with a name, which fits any image that it allows.
type Recipe struct {
	augment.Recipe                // its layers are in the store
	Images         []auth.Pattern // that it may be used on; empty: any
	Identity       string         // whose credentials reach the upstream
}

// Recipes are the named recipes of the configuration in force. They are looked at
// with every request, so that a reload needs no new Server.
type Recipes interface {
	// Any reports whether there is a recipe. Without one, no name is the name of a
	// recipe, and what stands in a token's place is read as a token.
	Any() bool
	Recipe(name string) (Recipe, bool)
}

// Grants keeps what was advertised under a recipe's name, where every server
// that shares the store finds it. auth.Grants is one. A grant that is not there
// is fs.ErrNotExist; the time is when it was stored.
type Grants interface {
	Put(ctx context.Context, name string, g auth.Grant) error
	Get(ctx context.Context, name string) (*auth.Grant, time.Time, error)
}

// What is kept in memory. None of it is needed: everything that was advertised
// is in the records, too.
const (
	namedImages   = 256
	namedTags     = 8192
	namedDigests  = 1 << 15
	namedFailures = 4096
)

// named serves images through named recipes. It is safe for concurrent use.
type named struct {
	recipes  Recipes
	aliases  map[string]string
	resolver Resolver
	grants   Grants
	store    blobstore.Store
	log      *slog.Logger

	images   *lru.Cache[ownedDigest, *image]        // by root
	owners   *lru.Cache[ownedDigest, digest.Digest] // roots of the images that digests are of
	tags     *lru.Cache[string, *namedTag]          // by namedRequest.key
	failures *lru.Cache[string, failure]            // by namedRequest.key
	flights  singleflight.Group
	now      func() time.Time
}

func newNamed(o Options) *named {
	n := &named{recipes: o.Recipes, aliases: o.Aliases, resolver: o.Resolver, grants: o.Grants, store: o.Store, log: o.Log, now: time.Now}
	// Only sizes below 1 fail.
	n.images, _ = lru.New[ownedDigest, *image](namedImages)
	n.owners, _ = lru.New[ownedDigest, digest.Digest](namedDigests)
	n.tags, _ = lru.New[string, *namedTag](namedTags)
	n.failures, _ = lru.New[string, failure](namedFailures)
	return n
}

// namedRequest is what a path under a recipe's name is about.
type namedRequest struct {
	name   string // of the recipe
	recipe Recipe
	ref    reference.Named // the repository
	// group is where the records of the repository under the recipe's name are. The
	// identity is part of it: what one may read is no matter of others.
	group string
}

func (q namedRequest) target() auth.Target {
	return auth.Target{Identity: q.recipe.Identity, Registry: reference.Domain(q.ref), Repository: reference.Path(q.ref)}
}

// key names a tag or digest in memory. A tag has no colon, so it is never taken
// for a digest.
func (q namedRequest) key(ref string) string { return q.group + " " + ref }

// record names what is kept about a digest.
func (q namedRequest) record(d digest.Digest) string {
	return q.group + "/" + d.Algorithm().String() + "-" + d.Encoded()
}

// tagRecord names what is kept about a tag.
func (q namedRequest) tagRecord(tag string) string { return q.group + "/tags/" + hashed(tag) }

// hashed makes any text a component of a record's name.
func hashed(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}

// parse finds the recipe and the repository that a path is about. The path names
// the repository as image names do: with its registry, or of Docker Hub. With ns,
// containerd's name for the registry that it asks us in place of, the path is the
// repository alone and is taken to the letter, even if it begins with what looks
// like a registry: repositories of mirrors are called that. Either may be an
// alias. What results is a name to look up, which the upstream's policy and
// dialer judge like any other.
func (n *named) parse(rt route, ns string) (namedRequest, error) {
	q := namedRequest{name: string(rt.token)}
	var known bool
	if q.recipe, known = n.recipes.Recipe(q.name); !known {
		return q, front.Refuse(http.StatusNotFound, front.NameUnknown, "no such recipe: %q is not in this server's configuration (recipes)", q.name)
	}
	name := rt.name
	if first, rest, ok := strings.Cut(name, "/"); ok && ns == "" {
		name = n.registry(first) + "/" + rest
	}
	if ns != "" {
		ns = n.registry(strings.ToLower(ns))
		name = ns + "/" + rt.name
	}
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil || !reference.IsNameOnly(ref) || ns != "" && reference.Domain(ref) != ns {
		return q, front.Refuse(http.StatusNotFound, front.NameInvalid, "%.300q is not the name of a repository", auth.Redact(name))
	}
	q.ref = ref
	if p := q.recipe.Images; len(p) > 0 && !auth.MatchAny(p, reference.Domain(ref), reference.Path(ref)) {
		return q, front.Refuse(http.StatusForbidden, front.Denied, "the recipe %s is not for %s (recipes.%s.images)", q.name, ref.Name(), q.name)
	}
	q.group = "named/" + hashed(q.name+"\n"+q.recipe.Identity+"\n"+ref.Name())
	return q, nil
}

// registry is what an alias, or one of the names of Docker Hub, stands for.
func (n *named) registry(name string) string {
	if host, ok := n.aliases[name]; ok {
		return host
	}
	if name == "registry-1.docker.io" || name == "index.docker.io" {
		return "docker.io"
	}
	return name
}

// maxRecipeName is the length that the configuration allows.
const maxRecipeName = 32

// isRecipe tells names of recipes from tokens, which are longer. What is in
// between is a token that was cut, which no message should show.
func isRecipe(component string) bool { return len(component) <= maxRecipeName }
