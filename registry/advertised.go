package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"regexp"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/internal/flight"
)

// Each digest that a client may learn from an image has a record before that
// image is advertised: the root its grant, every other one a grant of which only
// the root is set, that says which image it is of. So any server finds any digest
// with two small reads, and one that nobody has advertised costs one.

// ownedDigest is a digest as one repository under one recipe knows it.
type ownedDigest struct {
	group  string
	digest digest.Digest
}

const (
	// maxHops bounds the way from a digest to its image. More than two are left by
	// servers that wrote at the same time.
	maxHops = 8
	// maxRecords bounds the records that one image of a stranger makes us write. No
	// real one needs a third of it.
	maxRecords = 4096
	// recordWriters is how many are written at a time: each waits for the disk.
	recordWriters = 16
)

// having returns the image that an advertised digest is of: by this server or by
// another one. It is nil for any other digest.
func (n *named) having(ctx context.Context, q namedRequest, d digest.Digest) (*image, error) {
	if root, ok := n.owners.Get(ownedDigest{q.group, d}); ok {
		if img, ok := n.images.Get(ownedDigest{q.group, root}); ok {
			return img, nil
		}
	}
	return flight.Do(ctx, &n.flights, "records "+q.key(d.String()), loadTimeout, func(ctx context.Context) (*image, error) {
		return n.fromRecords(ctx, q, d)
	})
}

// rooted returns the image whose root the digest is. Other images may have the
// same digest inside: an index, the manifest that another tag names.
func (n *named) rooted(ctx context.Context, q namedRequest, root digest.Digest) (*image, error) {
	if img, ok := n.images.Get(ownedDigest{q.group, root}); ok {
		return img, nil
	}
	img, err := flight.Do(ctx, &n.flights, "records "+q.key(root.String()), loadTimeout, func(ctx context.Context) (*image, error) {
		return n.fromRecords(ctx, q, root)
	})
	if err == nil && img != nil && img.grant.Root.Digest != root {
		img = nil
	}
	return img, err
}

func (n *named) fromRecords(ctx context.Context, q namedRequest, d digest.Digest) (*image, error) {
	root := d
	for range maxHops {
		grant, _, err := n.grants.Get(ctx, q.record(root))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if grant.Root.Digest != root {
			root = grant.Root.Digest
			continue
		}
		img, ok := n.images.Get(ownedDigest{q.group, root})
		if !ok {
			if img, err = loadImage(ctx, n.store, grant); err != nil {
				return nil, err
			}
			n.hold(q, img)
		}
		n.owners.Add(ownedDigest{q.group, d}, root)
		return img, nil
	}
	return nil, fmt.Errorf("the records of %s of %s lead to no image", d, q.ref)
}

// hold keeps the image in memory.
func (n *named) hold(q namedRequest, img *image) {
	root := img.grant.Root.Digest
	n.images.Add(ownedDigest{q.group, root}, img)
	for _, d := range img.digests() {
		n.owners.Add(ownedDigest{q.group, d}, root)
	}
}

// advertise makes the image's digests good to ask for, here and at other
// servers, before anybody learns them. An image that is known already, maybe by
// another tag or since an older version, stays what it is known as.
func (n *named) advertise(ctx context.Context, q namedRequest, grant auth.Grant) (*image, error) {
	img, err := loadImage(ctx, n.store, &grant)
	if err != nil {
		return nil, err
	}
	digests := img.digests()
	if len(digests) > maxRecords {
		return nil, front.Refuse(http.StatusBadRequest, front.Unsupported, "%s has %d manifests, configs and layers; under a recipe this server takes %d", q.ref, len(digests), maxRecords)
	}
	for _, d := range digests {
		if err := d.Validate(); err != nil {
			return nil, front.Refuse(http.StatusBadRequest, front.ManifestInvalid, "%s has a config or layer with the digest %.100q: %v", q.ref, d, err)
		}
	}
	root := grant.Root.Digest
	have, _, err := n.grants.Get(ctx, q.record(root))
	if errors.Is(err, fs.ErrNotExist) || err == nil && have.Root.Digest != root {
		if err = n.grants.Put(ctx, q.record(root), grant); err == nil {
			// Another server may have written its own since.
			have, _, err = n.grants.Get(ctx, q.record(root))
		}
	}
	if err != nil {
		return nil, err
	}
	if have.Root.Digest == root {
		if img, err = loadImage(ctx, n.store, have); err != nil {
			return nil, err
		}
	}
	// After the root's, or a record that a crash left alone would lead nowhere.
	if err := n.point(ctx, q, root, digests); err != nil {
		return nil, err
	}
	n.hold(q, img)
	return img, nil
}

// point writes the records of digests that are of an image, but for those that
// have one.
func (n *named) point(ctx context.Context, q namedRequest, root digest.Digest, digests []digest.Digest) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(recordWriters)
	for _, d := range digests {
		g.Go(func() error {
			if _, _, err := n.grants.Get(ctx, q.record(d)); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return n.grants.Put(ctx, q.record(d), auth.Grant{Image: q.ref.Name(), Root: ocispec.Descriptor{Digest: root}})
		})
	}
	return g.Wait()
}

// pinned returns the upstream's manifest or index of a digest that is not ours,
// as it is. Its blobs are the upstream's; an index's manifests are asked for like
// this one.
func (n *named) pinned(ctx context.Context, q namedRequest, d digest.Digest) (*image, error) {
	key := q.key(d.String())
	if err := n.failed(key); err != nil {
		return nil, err
	}
	return flight.Do(ctx, &n.flights, key, lookUpTimeout, func(ctx context.Context) (*image, error) {
		if img, err := n.fromRecords(ctx, q, d); err != nil || img != nil {
			return img, err // since we looked
		}
		img, err := n.pin(ctx, q, d)
		if err != nil {
			if late, lateErr := n.fromRecords(ctx, q, d); lateErr == nil && late != nil {
				return late, nil // another server has advertised it meanwhile
			}
			n.fail(key, err)
		}
		return img, err
	})
}

func (n *named) pin(ctx context.Context, q namedRequest, d digest.Digest) (*image, error) {
	if a := d.Algorithm(); a != digest.SHA256 && a != digest.SHA512 {
		return nil, front.Refuse(http.StatusNotFound, front.DigestInvalid, "digests are sha256 or sha512 here, not %s", a)
	}
	o, err := n.resolver.Source(q.target()).Manifest(ctx, d.String())
	if err != nil {
		return nil, err
	}
	refs, err := o.References()
	if err != nil {
		return nil, err
	}
	o.MediaType = pinnedType(o, refs)
	if err := n.store.Put(ctx, d, bytes.NewReader(o.Data)); err != nil {
		return nil, err
	}
	return n.advertise(ctx, q, auth.Grant{
		Image: q.ref.Name(), Base: d, Root: o.Descriptor(), Objects: []digest.Digest{d}, Identity: q.recipe.Identity,
	})
}

// plainType keeps a stranger's document from being shown as a page.
var plainType = regexp.MustCompile(`^application/[A-Za-z0-9.+-]+$`)

// pinnedType is the media type that a document says it has, or the registry, or
// that it looks like.
func pinnedType(o augment.Object, refs augment.References) string {
	var doc struct {
		MediaType string `json:"mediaType"`
	}
	_ = json.Unmarshal(o.Data, &doc) // it has been read before
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
