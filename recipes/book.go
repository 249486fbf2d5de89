package recipes

import (
	"maps"
	"slices"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/auth"
)

// Book has the recipes in force. It implements registry.Recipes. The zero Book
// has none. It is safe for concurrent use.
type Book struct {
	inForce atomic.Pointer[Edition]
	used    atomic.Bool // an edition had a recipe
}

// Edition is a set of recipes, all of whose layers are in the store, and of the names
// of recipes that are still to be loaded.
type Edition struct {
	byName  map[string]recipe
	waiting map[string]bool
}

type recipe struct {
	assemble.NamedRecipe
	credentials []string
}

// Recipe returns the recipe in force with a name.
func (b *Book) Recipe(name string) (assemble.NamedRecipe, bool) {
	r, ok := b.edition().byName[name]
	return r.NamedRecipe, ok
}

// Waiting reports whether a recipe with a name is still to be loaded.
func (b *Book) Waiting(name string) bool { return b.edition().waiting[name] }

// WaitingNames returns the names of all recipes that are still to be loaded, sorted.
func (b *Book) WaitingNames() []string { return slices.Sorted(maps.Keys(b.edition().waiting)) }

// Await puts an edition into force in which all recipes are still to be loaded.
func (b *Book) Await(names []string) {
	e := &Edition{byName: map[string]recipe{}, waiting: map[string]bool{}}
	for _, name := range names {
		e.waiting[name] = true
		b.used.Store(true)
	}
	b.inForce.Store(e)
}

// put puts a recipe into force if the book still waits for it.
func (b *Book) put(name string, r recipe) {
	for {
		old := b.inForce.Load()
		if old == nil || !old.waiting[name] {
			return
		}
		e := &Edition{byName: maps.Clone(old.byName), waiting: maps.Clone(old.waiting)}
		e.byName[name] = r
		delete(e.waiting, name)
		if b.inForce.CompareAndSwap(old, e) {
			return
		}
	}
}

// Enabled reports whether the book has, or has had, a recipe. It stays true when the
// last one is removed, so that clients are told that it is gone.
func (b *Book) Enabled() bool { return b.used.Load() }

// Credentials returns the names of the credentials of an identity that
// auth.RecipeIdentity made. Any other identity has none.
func (b *Book) Credentials(identity string) []string {
	name, ok := auth.RecipeOf(identity)
	if !ok {
		return nil
	}
	return b.edition().byName[name].credentials
}

// Names returns the names of all recipes, sorted.
func (b *Book) Names() []string { return slices.Sorted(maps.Keys(b.edition().byName)) }

func (b *Book) edition() *Edition {
	if e := b.inForce.Load(); e != nil {
		return e
	}
	return &Edition{}
}

// Changes lists the recipes that differ between two editions, sorted by name.
type Changes struct{ Added, Changed, Removed []string }

// Replace puts an edition into force and returns the changes. A request that has
// begun keeps the recipe it began with.
func (b *Book) Replace(e *Edition) Changes {
	var c Changes
	old := b.inForce.Swap(e)
	if len(e.byName) > 0 {
		b.used.Store(true)
	}
	if old == nil {
		old = &Edition{}
	}
	for _, name := range slices.Sorted(maps.Keys(e.byName)) {
		if previous, ok := old.byName[name]; !ok {
			c.Added = append(c.Added, name)
		} else if !previous.equal(e.byName[name]) {
			c.Changed = append(c.Changed, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(old.byName)) {
		if _, ok := e.byName[name]; !ok {
			c.Removed = append(c.Removed, name)
		}
	}
	return c
}

func (r recipe) equal(other recipe) bool {
	return r.Recipe.Equal(other.Recipe) && r.TagTTL == other.TagTTL &&
		slices.EqualFunc(r.Images, other.Images, auth.Pattern.Equal) && slices.Equal(r.credentials, other.credentials)
}

// Layers returns the digests of all layers of the edition in force.
func (b *Book) Layers() (digests []digest.Digest) {
	for _, r := range b.edition().byName {
		for recipe := &r.Recipe; recipe != nil; recipe = recipe.Below {
			for _, l := range recipe.Layers {
				digests = append(digests, l.Digest)
			}
		}
	}
	return digests
}
