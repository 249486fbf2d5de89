package assemble

import (
	"context"
	"fmt"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
)

// Inspection is what an image is at its registry.
type Inspection struct {
	Host string         // base URL of the registry: "https://registry-1.docker.io"
	Root augment.Object // what the reference names: a manifest or an index
	// Manifest and Config are of the image for the platform; nil when Root is an
	// index and no platform was asked for.
	Manifest, Config *augment.Object
}

// Inspect reads an image as it is, without augmenting it. Of an index it
// chooses the first image for one of the platforms. Errors are *upstream.Error
// and *augment.Error.
func (r *Resolver) Inspect(ctx context.Context, identity string, ref reference.Named, platforms []ocispec.Platform) (Inspection, error) {
	target, want, _ := r.locate(identity, ref)
	src := &chargedSource{baseSource: r.bases.repository(target)}
	defer src.release()
	in, err := r.inspect(ctx, src, ref.String(), want, platforms)
	in.Host = r.bases.client.Repository(target).Host()
	return in, err
}

// inspect reads the image that want names in src.
func (r *Resolver) inspect(ctx context.Context, src augment.Source, name, want string, platforms []ocispec.Platform) (Inspection, error) {
	root, err := src.Manifest(ctx, want)
	if err != nil {
		return Inspection{}, err
	}
	in := Inspection{Root: root}
	refs, err := root.References(ctx)
	if err != nil {
		return Inspection{}, err
	}
	if refs.Config == nil && len(platforms) == 0 {
		return in, nil
	}
	// The zero recipe reads what would be augmented, with all its checks.
	image, err := r.augmenter.Apply(ctx, src, augment.Request{Name: name, Reference: want, Platforms: platforms})
	if err != nil {
		return Inspection{}, err
	}
	return in, in.choose(ctx, image)
}

// choose picks the manifest: the root itself, or the index's first entry that
// was read.
func (in *Inspection) choose(ctx context.Context, image *augment.Image) error {
	byDigest := map[string]augment.Object{}
	for _, o := range image.Objects {
		byDigest[o.Digest.String()] = o
	}
	queue := []string{image.Root.Digest.String()}
	for ; len(queue) > 0; queue = queue[1:] {
		o, ok := byDigest[queue[0]]
		if !ok {
			continue // an entry for another platform
		}
		refs, err := o.References(ctx)
		if err != nil {
			return err
		}
		if refs.Config != nil {
			config := byDigest[refs.Config.Digest.String()]
			in.Manifest, in.Config = &o, &config
			return nil
		}
		for _, child := range refs.Manifests {
			queue = append(queue, child.Digest.String())
		}
	}
	return fmt.Errorf("inspect %s: no manifest was read", image.Root.Digest)
}

// CheckLogin asks a registry whether it accepts a user's password. It is false
// only when the registry refused them. A registry that could not be asked is an
// *upstream.Error.
func (r *Resolver) CheckLogin(ctx context.Context, host, username, password string) (bool, error) {
	return r.bases.client.CheckLogin(ctx, host, username, password)
}
