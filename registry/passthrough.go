package registry

import (
	"context"
	"net/http"
	"regexp"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/internal/flight"
	"github.com/waveproxy/waveproxy/internal/pack"
)

// passThrough serves the upstream's manifests and indexes by digest, as they are.
// It is safe for concurrent use.
type passThrough struct {
	ledger   *ledger
	resolver Resolver
	failures *failures
	fetches  flight.Calls // by namedRepository.memoryKey
}

// imageByDigest returns the upstream's manifest or index with a digest that was not
// advertised, as an image to which nothing was added. Its blobs are the
// upstream's. The manifests of an index are asked for one by one, like this one.
func (p *passThrough) imageByDigest(ctx context.Context, q namedRepository, d digest.Digest) (*image, error) {
	key := q.memoryKey(d.String())
	if err := p.failures.recentFailure(key, augment.Recipe{}); err != nil {
		return nil, err
	}
	return flight.Do(ctx, &p.fetches, key, lookUpTimeout, func(ctx context.Context) (*image, error) {
		// fromRecords and not load, because this run is the only one for the digest.
		if img, err := p.ledger.fromRecords(ctx, q, d); err != nil || img != nil {
			return img, err // advertised since the caller looked
		}
		img, err := p.fetchPinned(ctx, q, d)
		if err != nil {
			if recorded, recordErr := p.ledger.fromRecords(ctx, q, d); recordErr == nil && recorded != nil {
				return recorded, nil // another server has advertised it meanwhile
			}
			p.failures.noteFailure(key, augment.Recipe{}, err)
		}
		return img, err
	})
}

// fetchPinned reads the upstream's document, stores it and advertises it.
func (p *passThrough) fetchPinned(ctx context.Context, q namedRepository, d digest.Digest) (*image, error) {
	if a := d.Algorithm(); a != digest.SHA256 && a != digest.SHA512 {
		return nil, front.Refuse(http.StatusNotFound, front.DigestInvalid, "digests are sha256 or sha512 here, not %s", a)
	}
	o, err := p.resolver.Source(q.target()).Manifest(ctx, d.String())
	if err != nil {
		return nil, err
	}
	release, err := budget.From(ctx).Hold(budget.Memory, decodingCost*int64(len(o.Data)))
	if err != nil {
		return nil, err
	}
	defer release()
	refs, err := o.References(ctx)
	if err != nil {
		return nil, err
	}
	o.MediaType = pinnedType(ctx, o, refs)
	return p.ledger.advertise(ctx, q, auth.Grant{
		Image: q.ref.Name(), Base: d, Root: o.Descriptor(), Objects: []digest.Digest{d}, Identity: q.recipe.Identity,
		Parts: []pack.Part{pack.Of(d, o.Data)},
	})
}

// plainType keeps a stranger's document from being shown as a page.
var plainType = regexp.MustCompile(`^application/[A-Za-z0-9.+-]+$`)

// pinnedType returns the document's media type; else the registry's; else one
// derived from the document's fields.
func pinnedType(ctx context.Context, o augment.Object, refs augment.References) string {
	var doc struct {
		MediaType string `json:"mediaType"`
	}
	_ = o.Decode(ctx, &doc) // References has read it
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
