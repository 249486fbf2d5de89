package registry

import (
	"context"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/front"
)

// Recipes are the named recipes of the configuration in force. They are looked at
// with every request, so that a reload needs no new Server.
type Recipes interface {
	// Enabled reports whether there is, or was, a recipe. Before that no name is the
	// name of a recipe, and any text in a token's place is read as a token.
	Enabled() bool
	// Recipe returns the recipe with a name. ok is false if there is none.
	Recipe(name string) (recipe assemble.NamedRecipe, ok bool)
	// Waiting reports whether a recipe that has the name is still to be loaded.
	Waiting(name string) bool
}

// Grants keeps the images that were advertised under a recipe's name, where every
// server that shares the store finds them. auth.Grants is one. A grant that is not
// there is fs.ErrNotExist; the time is when it was stored. An index is kept beside a
// grant.
type Grants interface {
	Put(ctx context.Context, name string, g auth.Grant) error
	PutIndexed(ctx context.Context, name string, g auth.Grant, index []byte) error
	Get(ctx context.Context, name string) (*auth.Grant, time.Time, error)
	Index(ctx context.Context, name string) ([]byte, error)
}

// Records lists what Grants has stored. blobstore.Dir is one.
type Records interface {
	// Records returns the names of the records right below a directory of records,
	// and when the directory was modified before they were read: zero if there is
	// none. If it was at the time since, it reads no names.
	Records(ctx context.Context, dir string, since time.Time) (names []string, modified time.Time, err error)
	// Use keeps a record and blobs from being collected, because they are in use.
	Use(ctx context.Context, record string, blobs []digest.Digest) error
}

// named is what pulls through named recipes need.
type named struct {
	paths       paths
	ledger      *ledger
	tags        *tagTable
	passThrough *passThrough
	lists       *lists
}

func newNamed(o Options) *named {
	now := o.now
	if now == nil {
		now = time.Now
	}
	l := newLedger(o.Grants, o.Records, o.Store)
	f := newFailures(now)
	pass := &passThrough{ledger: l, resolver: o.Resolver, failures: f}
	return &named{
		paths:       paths{recipes: o.Recipes, aliases: o.Aliases},
		ledger:      l,
		tags:        newTagTable(l, tagSource{resolver: o.Resolver, ledger: l, passThrough: pass, now: now, headTimeout: headTimeout}, f, o.Log, now),
		passThrough: pass,
		lists:       newLists(o.Upstream, f),
	}
}

// tagCacheControl is the Cache-Control of a manifest that was asked for by tag.
const tagCacheControl = "private, no-cache, no-transform"

// serveNamed is serve for an image that is pulled through a named recipe.
func (s *Server) serveNamed(w http.ResponseWriter, r *http.Request, rt route, user string) error {
	ctx := r.Context()
	// The name of a recipe is no secret, and its credentials may read what is private.
	// Container engines may use any name, because a mirror or a proxy may have one that
	// the configuration does not tell.
	if s.options.Passwords == nil && front.FromBrowser(r) && !front.KnownHost(r, s.options.Names...) {
		return front.Refuse(http.StatusMisdirectedRequest, front.Denied,
			"this server is not known as %.100q: browsers read images of recipes at its address, localhost or the host of http.host", r.Host)
	}
	q, err := s.named.paths.parse(rt, r.URL.Query().Get("ns"))
	if err != nil {
		return err
	}
	if err := s.options.Upstream.Check(q.target()); err != nil {
		return err
	}
	switch rt.kind {
	case kindTags:
		if len(r.URL.RawQuery) > maxListQuery {
			return front.Refuse(http.StatusBadRequest, front.Unsupported, "the query for tags has more than %d bytes", maxListQuery)
		}
		if err := s.countPull(ctx, user, q.memoryKey("tags "+r.URL.RawQuery)); err != nil {
			return err
		}
		return s.named.lists.serveTags(w, r, q, rt)
	case kindManifest:
		img, err := s.namedManifest(ctx, w, q, &rt, user)
		if err == nil {
			err = permit(ctx, s.options.Upstream, img)
		}
		if err != nil {
			return err
		}
		if err := img.holdFor(ctx); err != nil {
			return err
		}
		keepUsed(ctx, s.options.Records, s.options.Log, img, time.Now())
		// The recipe adds something, but nothing was added to this image.
		if r.Method == http.MethodGet && img.grant.Recipe.IsZero() && !q.recipe.IsZero() {
			front.RecordOf(ctx).Untouched = true
		}
		return s.serveManifest(w, r, img, rt)
	}
	img, err := s.named.ledger.imageOf(ctx, q, rt.digest)
	if err == nil && img != nil {
		err = permit(ctx, s.options.Upstream, img)
	}
	// An unknown digest is not free, nor is what the upstream is asked for.
	upstreams := img == nil || img.grant.Recipe.IsZero()
	if err == nil && (img == nil || upstreams && rt.kind == kindReferrers) {
		err = s.countPull(ctx, user, q.memoryKey(rt.digest.String()))
	}
	if err != nil {
		return err
	}
	if rt.kind == kindReferrers && upstreams {
		return s.named.lists.serveReferrers(w, r, q, rt.digest)
	}
	if rt.kind == kindReferrers {
		return s.serveNamedReferrers(w, r, img, q, rt.digest)
	}
	if img == nil {
		return front.Refuse(http.StatusNotFound, front.BlobUnknown, "no image of %s that was pulled through the recipe %s has the blob %s", q.ref.Name(), q.name, rt.digest)
	}
	if err := img.holdFor(ctx); err != nil {
		return err
	}
	keepUsed(ctx, s.options.Records, s.options.Log, img, time.Now())
	return s.serveBlob(w, r, img, rt.digest)
}

// namedManifest returns the image that a tag or digest belongs to, and turns the
// route into one by digest. Tags in memory and recorded digests of a repository
// share one pull. Any other tag or digest may need an upstream request and is
// charged by itself, so that unknown names cannot flood the upstream.
func (s *Server) namedManifest(ctx context.Context, w http.ResponseWriter, q namedRepository, rt *route, user string) (*image, error) {
	if rt.tag == "" {
		img, err := s.named.ledger.imageOf(ctx, q, rt.digest)
		if err != nil {
			return nil, err
		}
		if img != nil {
			return img, s.countPull(ctx, user, q.group)
		}
		if err := s.countPull(ctx, user, q.memoryKey(rt.digest.String())); err != nil {
			return nil, err
		}
		return s.named.passThrough.imageByDigest(ctx, q, rt.digest)
	}
	event := q.group
	if !s.named.tags.inMemory(q, rt.tag) {
		event = q.memoryKey(rt.tag)
	}
	if err := s.countPull(ctx, user, event); err != nil {
		return nil, err
	}
	img, stale, err := s.named.tags.imageByTag(ctx, q, rt.tag)
	if err != nil {
		return nil, err
	}
	w.Header().Set("Cache-Control", tagCacheControl)
	if stale {
		w.Header().Set("Warning", `110 waveproxy "the registry is unavailable, this is the last known image of the tag"`)
	}
	rt.tag, rt.digest = "", img.grant.Root.Digest
	return img, nil
}
