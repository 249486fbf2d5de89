package assemble

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/layerindex"
	"github.com/waveproxy/waveproxy/upstream"
)

// Resolver computes augmented images: what tokens are minted for. It is safe
// for concurrent use.
type Resolver struct {
	// Builder is what the provenance of images names as their builder; set before
	// the first use. Without it, none is kept.
	Builder auth.Builder
	// Log gets the faults of base images that did not matter; set before the first use.
	// Without it they are not logged.
	Log *slog.Logger

	bases     *bases
	layers    *Layers
	store     blobstore.Store
	recent    *recent
	augmenter *augment.Augmenter
}

// NewResolver returns a Resolver that reads base images through client, takes
// the layers of included images in through layers, puts what it makes into
// store, and allows images of maxLayers layers.
func NewResolver(client *upstream.Client, layers *Layers, store blobstore.Store, maxLayers int) *Resolver {
	return &Resolver{bases: newBases(client, layers.records), layers: layers, store: store, recent: newRecent(), augmenter: augment.NewAugmenter(maxLayers)}
}

// NamedRecipe is a recipe of the configuration, which fits any image that it
// allows.
type NamedRecipe struct {
	augment.Recipe                // its layers are in the store
	Images         []auth.Pattern // that it may be used on; empty: any
	Identity       string         // whose credentials reach the upstream
	TagTTL         time.Duration  // how long a tag is served unconfirmed; 0 is the default
}

// ImageRequest is an image to resolve.
type ImageRequest struct {
	Identity  string // whose upstream credentials to use
	Ref       reference.Named
	Recipe    augment.Recipe
	Named     string // the recipe's name, if it has one
	Platforms []ocispec.Platform
	// Base is what the reference's tag names; empty: what it names now.
	Base digest.Digest
	// Staged has the layers of the recipe that are not in the store. It is read until the
	// grant is stored.
	Staged blobstore.Store
	// Upon are the grants of this server's images that the recipe's other layers are of.
	Upon []*auth.Grant
}

// Resolve pins the image that the reference names now, applies the recipe, and
// returns the grant for the result. Every byte that we serve for it is among the grant's
// parts, and is stored with the grant. It costs one upstream request for the manifest, and for each
// platform one for its config and, below an index, one for its manifest, unless
// another submission has just read them.
// Errors are *upstream.Error, *augment.Error, or those of the stores.
func (r *Resolver) Resolve(ctx context.Context, req ImageRequest) (auth.Grant, error) {
	target, want, tag := r.locate(req.Identity, req.Ref)
	name := req.Ref.Name() + "@" + want
	if tag != "" {
		name = req.Ref.Name() + ":" + tag
	}
	grant := auth.Grant{Image: req.Ref.Name(), Tag: tag, Recipe: req.Recipe, Identity: req.Identity, Named: req.Named}
	if !req.Recipe.IsZero() {
		grant.Builder = r.Builder
	}
	if req.Base != "" {
		want = req.Base.String()
	}
	for _, p := range req.Platforms {
		grant.Platforms = append(grant.Platforms, augment.FormatPlatform(p))
	}
	src := &chargedSource{baseSource: r.bases.repository(target)}
	defer src.release()
	archives := r.archives(req)
	image, err := r.augmenter.Apply(ctx, src, augment.Request{
		Name: name, Reference: want, Recipe: req.Recipe, Platforms: req.Platforms, Access: req.Identity,
		Archives: archives, Made: src.made,
		AddedIndex: func(ctx context.Context, l augment.Layer) (*layerindex.Index, error) {
			return src.added(ctx, archives, l)
		},
	})
	if err != nil {
		return auth.Grant{}, fmt.Errorf("augment %s: %w", name, err)
	}
	if err := checkSizes(ctx, image.Objects); err != nil {
		return auth.Grant{}, fmt.Errorf("augment %s: %w", name, err)
	}
	grant.Base, grant.Root = image.Base, image.Root
	for _, l := range image.Layers {
		grant.Injected = append(grant.Injected, l.Digest)
	}
	for _, o := range image.Objects {
		grant.Objects = append(grant.Objects, o.Digest)
	}
	for _, d := range image.Absent {
		grant.Absent = append(grant.Absent, d.Digest)
	}
	r.tell(ctx, name, image)
	if grant.Parts, err = archives.parts(ctx, image); err != nil {
		return auth.Grant{}, fmt.Errorf("store %s: %w", name, err)
	}
	return grant, nil
}

// tell logs what is wrong with a base image that could be augmented.
func (r *Resolver) tell(ctx context.Context, name string, image *augment.Image) {
	if r.Log == nil {
		return
	}
	for i, d := range image.Absent {
		if i == maxTold {
			break
		}
		platform := "an undeclared platform"
		if d.Platform != nil {
			platform = augment.FormatPlatform(*d.Platform)
		}
		r.Log.WarnContext(ctx, "the registry lacks an image that its index names, leaving the platform out",
			"image", name, "platform", platform, "manifest", d.Digest, "absent", len(image.Absent))
	}
	for _, remark := range image.Remarks[:min(len(image.Remarks), maxTold)] {
		r.Log.WarnContext(ctx, "base image contradicts itself, going on", "image", name, "fault", remark)
	}
}

// maxTold bounds the lines about one base image, which is a stranger's.
const maxTold = 8

// Digest returns what a tag names now, or nothing if the registry does not say. It asks
// the registry, with GET only where HEAD is refused. Resolve then reads no older answer.
func (r *Resolver) Digest(ctx context.Context, target auth.Target, tag string) (digest.Digest, error) {
	d, got, err := r.bases.client.Repository(target).Digest(ctx, tag)
	key := baseKey{target, tag}
	known, ok := r.bases.tags.Peek(key)
	switch {
	case got != nil:
		r.bases.keepTag(key, *got)
	case ok && err == nil && known.object.Digest == d:
		r.bases.keepTag(key, known.object)
	case ok:
		r.bases.tags.Remove(key)
	}
	return d, err
}

// Source returns a repository as Resolve reads it: from memory, or with one request
// for all concurrent callers.
func (r *Resolver) Source(target auth.Target) augment.Source { return r.bases.repository(target) }

// locate returns where an image is and what to ask for there: its tag, latest
// if it has none, or its digest. As everywhere else, a tag beside a digest is
// only a comment, and tag is empty.
func (r *Resolver) locate(identity string, ref reference.Named) (target auth.Target, want, tag string) {
	target = auth.Target{Identity: identity, Registry: reference.Domain(ref), Repository: reference.Path(ref)}
	ref = reference.TagNameOnly(ref)
	if pinned, ok := ref.(reference.Digested); ok {
		return target, pinned.Digest().String(), ""
	}
	if tagged, ok := ref.(reference.Tagged); ok {
		tag = tagged.Tag()
	}
	return target, tag, tag
}
