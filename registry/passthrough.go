package registry

import (
	"bytes"
	"context"
	"net/http"
	"regexp"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/singleflight"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/internal/flight"
)

// passThrough serves the upstream's manifests and indexes by digest, as they are.
// It is safe for concurrent use.
type passThrough struct {
	ledger   *ledger
	resolver Resolver
	store    blobstore.Store
	failures *failures
	fetches  singleflight.Group // by namedRequest.key
}

// image returns the upstream's manifest or index with a digest that was not
// advertised, as an image to which nothing was added. Its blobs are the
// upstream's. The manifests of an index are asked for one by one, like this one.
func (p *passThrough) image(ctx context.Context, q namedRequest, d digest.Digest) (*image, error) {
	key := q.key(d.String())
	if err := p.failures.recentFailure(key); err != nil {
		return nil, err
	}
	return flight.Do(ctx, &p.fetches, key, lookUpTimeout, func(ctx context.Context) (*image, error) {
		if img, err := p.ledger.fromRecords(ctx, q, d); err != nil || img != nil {
			return img, err // advertised since the caller looked
		}
		img, err := p.fetchPinned(ctx, q, d)
		if err != nil {
			if late, lateErr := p.ledger.fromRecords(ctx, q, d); lateErr == nil && late != nil {
				return late, nil // another server has advertised it meanwhile
			}
			p.failures.noteFailure(key, err)
		}
		return img, err
	})
}

// fetchPinned reads the upstream's document, stores it and advertises it.
func (p *passThrough) fetchPinned(ctx context.Context, q namedRequest, d digest.Digest) (*image, error) {
	if a := d.Algorithm(); a != digest.SHA256 && a != digest.SHA512 {
		return nil, front.Refuse(http.StatusNotFound, front.DigestInvalid, "digests are sha256 or sha512 here, not %s", a)
	}
	o, err := p.resolver.Source(q.target()).Manifest(ctx, d.String())
	if err != nil {
		return nil, err
	}
	refs, err := o.References()
	if err != nil {
		return nil, err
	}
	o.MediaType = pinnedType(o, refs)
	if err := p.store.Put(ctx, d, bytes.NewReader(o.Data)); err != nil {
		return nil, err
	}
	return p.ledger.advertise(ctx, q, auth.Grant{
		Image: q.ref.Name(), Base: d, Root: o.Descriptor(), Objects: []digest.Digest{d}, Identity: q.recipe.Identity,
	})
}

// plainType keeps a stranger's document from being shown as a page.
var plainType = regexp.MustCompile(`^application/[A-Za-z0-9.+-]+$`)

// pinnedType returns the media type in the document, or else the registry's, or
// else the media type whose form the document has.
func pinnedType(o augment.Object, refs augment.References) string {
	var doc struct {
		MediaType string `json:"mediaType"`
	}
	_ = o.Decode(&doc) // References has read it
	switch {
	case plainType.MatchString(doc.MediaType):
		return doc.MediaType
	case plainType.MatchString(o.MediaType):
		return o.MediaType
	case refs.Config == nil && refs.Manifests != nil:
		return ocispec.MediaTypeImageIndex
	}
	return ocispec.MediaTypeImageManifest
}
