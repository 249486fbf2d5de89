package assemble

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/internal/unpack"
	"github.com/waveproxy/waveproxy/layerindex"
)

// NamedImage is what a name under a recipe stands for.
type NamedImage struct {
	Ref    reference.Named // the base image's repository
	Recipe augment.Recipe  // to be applied to it
	Grant  *auth.Grant     // of an image by a digest that this server made; nil if the digest is the upstream's
}

// Permit returns the error with which a pull of the grant's image would be
// refused now, to the grant's own identity or to the one that asks. It touches no
// network.
func (r *Resolver) Permit(ctx context.Context, identity string, g *auth.Grant) error {
	if err := Permit(ctx, r.bases.client, g.Identity, g); err != nil || identity == g.Identity {
		return err
	}
	return Permit(ctx, r.bases.client, identity, g)
}

// InspectGrant reads the image of a grant as a pull gives it: what this server
// made from the store, the rest from the upstream on behalf of the identity.
func (r *Resolver) InspectGrant(ctx context.Context, identity string, g *auth.Grant, platforms []ocispec.Platform) (Inspection, error) {
	charged := &chargedSource{baseSource: r.bases.repository(target(identity, g))}
	defer charged.release()
	src := grantSource{chargedSource: charged, store: r.store, grant: g}
	return r.inspect(ctx, src, g.Image, g.Root.Digest.String(), platforms)
}

// InspectNamed reads the image that a tag under a recipe stands for now: the upstream's
// if the recipe lets it pass as it is.
func (r *Resolver) InspectNamed(ctx context.Context, identity string, ref reference.Named, recipe augment.Recipe, platforms []ocispec.Platform) (Inspection, error) {
	at, want, _ := r.locate(identity, ref)
	base := &chargedSource{baseSource: r.bases.repository(at)}
	defer base.release()
	archives := r.archives(ImageRequest{})
	image, err := r.augmenter.Apply(ctx, base, augment.Request{
		Name: reference.TagNameOnly(ref).String(), Reference: want, Recipe: recipe, Platforms: platforms, Access: identity,
		Archives: archives, Made: base.made,
		AddedIndex: func(ctx context.Context, l augment.Layer) (*layerindex.Index, error) {
			return base.added(ctx, archives, l)
		},
	})
	if unfit, ok := errors.AsType[*augment.Unfit](err); ok && (!unfit.Image || recipe.Plain) {
		return r.inspect(ctx, base, ref.Name(), unfit.Base.String(), platforms)
	}
	if err != nil {
		return Inspection{}, err
	}
	made := imageSource{Source: base, image: image}
	return r.inspect(ctx, made, ref.Name(), image.Root.Digest.String(), platforms)
}

func target(identity string, g *auth.Grant) auth.Target {
	registry, repository, _ := strings.Cut(g.Image, "/")
	return auth.Target{Identity: identity, Registry: registry, Repository: repository}
}

// grantSource reads the objects of a grant from the store.
type grantSource struct {
	*chargedSource
	store blobstore.Store
	grant *auth.Grant
}

func (s grantSource) Manifest(ctx context.Context, ref string) (augment.Object, error) {
	if o, ok, err := s.stored(ctx, digest.Digest(ref)); ok {
		return o, err
	}
	return s.chargedSource.Manifest(ctx, ref)
}

func (s grantSource) Blob(ctx context.Context, d ocispec.Descriptor) (augment.Object, error) {
	if o, ok, err := s.stored(ctx, d.Digest); ok {
		return o, err
	}
	return s.chargedSource.Blob(ctx, d)
}

// stored reads an object of the grant, which is charged before it is read. ok is false
// for any other one.
func (s grantSource) stored(ctx context.Context, d digest.Digest) (o augment.Object, ok bool, err error) {
	if d != s.grant.Root.Digest && !slices.Contains(s.grant.Objects, d) {
		return o, false, nil
	}
	mediaType := ""
	if d == s.grant.Root.Digest {
		mediaType = s.grant.Root.MediaType
	}
	f, err := blobstore.In(s.store, s.grant.Record).Open(ctx, d)
	if err != nil {
		return o, true, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return o, true, fmt.Errorf("read %s: %w", d, err)
	}
	if err := s.hold(ctx, documentCost*size); err != nil {
		return o, true, err
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(f, data); err != nil {
		return o, true, fmt.Errorf("read %s: %w", d, err)
	}
	err = unpack.InTurn(ctx, len(data), func() error {
		o = augment.NewObject(mediaType, data)
		return nil
	})
	return o, true, err
}

// imageSource reads the objects of an image that has just been made.
type imageSource struct {
	augment.Source
	image *augment.Image
}

func (s imageSource) Manifest(ctx context.Context, ref string) (augment.Object, error) {
	if i := s.find(digest.Digest(ref)); i >= 0 {
		return s.image.Objects[i], nil
	}
	return s.Source.Manifest(ctx, ref)
}

func (s imageSource) Blob(ctx context.Context, d ocispec.Descriptor) (augment.Object, error) {
	if i := s.find(d.Digest); i >= 0 {
		return s.image.Objects[i], nil
	}
	return s.Source.Blob(ctx, d)
}

func (s imageSource) find(d digest.Digest) int {
	return slices.IndexFunc(s.image.Objects, func(o augment.Object) bool { return o.Digest == d })
}
