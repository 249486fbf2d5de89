package registry

import (
	"context"
	"net/http"

	"github.com/waveproxy/waveproxy/front"
)

// tagCacheControl goes with what a tag is now.
const tagCacheControl = "private, no-cache, no-transform"

// serveNamed is serve for an image that is pulled through a named recipe.
func (s *Server) serveNamed(w http.ResponseWriter, r *http.Request, rt route, user string) error {
	ctx := r.Context()
	q, err := s.named.parse(rt, r.URL.Query().Get("ns"))
	if err != nil {
		return err
	}
	if rt.kind == kindTags {
		return front.Refuse(http.StatusNotFound, front.Unsupported, "the tags of %s are not listed under a recipe: ask its registry for them", q.ref.Name())
	}
	if rt.kind == kindManifest {
		img, err := s.namedManifest(ctx, w, q, &rt, user)
		if err != nil {
			return err
		}
		if r.Method == http.MethodGet && img.grant.Recipe.IsZero() && !q.recipe.IsZero() {
			front.RecordOf(ctx).Untouched = true
		}
		return s.serveManifest(w, r, img, rt)
	}
	img, err := s.named.having(ctx, q, rt.digest)
	if err != nil {
		return err
	}
	if rt.kind == kindReferrers {
		return s.serveNamedReferrers(w, r, img, q, rt.digest)
	}
	if img == nil {
		return front.Refuse(http.StatusNotFound, front.BlobUnknown, "no image of %s that was pulled through the recipe %s has the blob %s", q.ref.Name(), q.name, rt.digest)
	}
	return s.serveBlob(w, r, img, rt.digest)
}

// namedManifest returns the image that a tag or digest is of, and makes the
// route one of a digest. What is known counts as one pull of the repository, by
// whatever names it is asked for; a tag or digest that the upstream has to be
// asked for counts by itself, so that nobody has it asked without end.
func (s *Server) namedManifest(ctx context.Context, w http.ResponseWriter, q namedRequest, rt *route, user string) (*image, error) {
	if rt.tag == "" {
		img, err := s.named.having(ctx, q, rt.digest)
		if err != nil {
			return nil, err
		}
		if img != nil {
			return img, s.countPull(ctx, user, q.group)
		}
		if err := s.countPull(ctx, user, q.key(rt.digest.String())); err != nil {
			return nil, err
		}
		return s.named.pinned(ctx, q, rt.digest)
	}
	event := q.group
	if !s.named.tags.Contains(q.key(rt.tag)) {
		event = q.key(rt.tag)
	}
	if err := s.countPull(ctx, user, event); err != nil {
		return nil, err
	}
	img, stale, err := s.named.tag(ctx, q, rt.tag)
	if err != nil {
		return nil, err
	}
	w.Header().Set("Cache-Control", tagCacheControl)
	if stale {
		w.Header().Set("Warning", `110 waveproxy "the tag is what it was when the registry could last be asked"`)
	}
	rt.tag, rt.digest = "", img.grant.Root.Digest
	return img, nil
}
