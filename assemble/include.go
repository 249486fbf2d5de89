package assemble

import (
	"context"
	"fmt"
	"regexp"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/upstream"
)

const (
	// MaxIncluded bounds the layers of an included image, all its platforms together: 20
	// platforms of 25 layers fit. More fit into no grant.
	MaxIncluded = 512
	// includedText bounds what these layers take in a grant, in bytes, and layerText is
	// what one takes beside the names of its registry and repository.
	includedText = 240 << 10
	layerText    = 420
)

// maxIncluded returns how many layers of images of the target may be included.
func maxIncluded(target auth.Target) int {
	return min(MaxIncluded, includedText/(layerText+len(target.Registry)+len(target.Repository)))
}

// IncludedLayers returns the layers of an image that is to be laid over
// another, checked and stored like every injected layer. They are bound to
// the platform of the image they come from, as its entry in the index says. Of an index,
// those are the wanted ones, or all when none is wanted. An image without an index and
// without an architecture fits any. An image of more than MaxIncluded layers
// is an *augment.Error.
func (r *Resolver) IncludedLayers(ctx context.Context, identity string, ref reference.Named, platforms []ocispec.Platform) ([]augment.Layer, error) {
	target, want, _ := r.locate(identity, ref)
	// The zero recipe reads what would be augmented, with all its checks.
	src := &chargedSource{baseSource: r.bases.repository(target)}
	defer src.release()
	image, err := r.augmenter.Apply(ctx, src, augment.Request{Name: ref.String(), Reference: want, Platforms: platforms})
	if err != nil {
		return nil, fmt.Errorf("include %s: %w", ref, err)
	}
	objects := map[digest.Digest]augment.Object{}
	for _, o := range image.Objects {
		objects[o.Digest] = o
	}
	type manifest struct {
		refs      augment.References
		platforms []ocispec.Platform
	}
	var manifests []manifest
	n, limit := 0, maxIncluded(target)
	for _, o := range image.Objects {
		if !o.IsManifest() {
			continue
		}
		refs, err := o.References(ctx)
		if err != nil {
			return nil, fmt.Errorf("include %s: %w", ref, err)
		}
		m := manifest{refs, image.Platforms[o.Digest]}
		n += len(refs.Layers) * len(m.platforms)
		manifests = append(manifests, m)
	}
	// Before the first layer is fetched.
	if n > limit {
		return nil, augment.Errorf("include %s: the image has %d layers in all its platforms, and at most %d are taken: name the platforms that are needed", ref, n, limit)
	}
	var layers []augment.Layer
	for _, m := range manifests {
		found, err := r.layersOf(ctx, target, m.refs, objects[m.refs.Config.Digest])
		if err != nil {
			return nil, fmt.Errorf("include %s: %w", ref, err)
		}
		for _, p := range m.platforms {
			for _, layer := range found {
				if layer.Platform = ""; p.Architecture != "" {
					layer.Platform = augment.FormatPlatform(p)
				}
				layers = append(layers, layer)
			}
		}
	}
	return layers, nil
}

// layersOf takes in the layers of one manifest. They are bound to no platform yet.
func (r *Resolver) layersOf(ctx context.Context, target auth.Target, refs augment.References, config augment.Object) ([]augment.Layer, error) {
	var doc struct {
		RootFS ocispec.RootFS `json:"rootfs"`
	}
	if err := config.Decode(ctx, &doc); err != nil {
		return nil, err
	}
	if len(doc.RootFS.DiffIDs) != len(refs.Layers) {
		return nil, augment.Errorf("the image is inconsistent: its manifest has %d layers, its config %d diff_ids", len(refs.Layers), len(doc.RootFS.DiffIDs))
	}
	var layers []augment.Layer
	for i, desc := range refs.Layers {
		// The manifest has just been read on behalf of the identity.
		layer, err := r.layers.blob(ctx, target, true, Expected{Digest: desc.Digest, Size: desc.Size, DiffID: doc.RootFS.DiffIDs[i]})
		if err != nil {
			return nil, err
		}
		layers = append(layers, layer)
	}
	return layers, nil
}

// blobLocation is how Wave's clients name a blob of an image.
var blobLocation = regexp.MustCompile(`^docker://([^/]+)/v2/(.+)/blobs/(sha256:[0-9a-f]{64})$`)

// Image takes a layer at docker://<registry>/v2/<repository>/blobs/<digest>,
// with the credentials of the identity.
func (l *Layers) Image(ctx context.Context, identity, location string, want Expected) (augment.Layer, error) {
	m := blobLocation.FindStringSubmatch(location)
	if m == nil {
		return augment.Layer{}, augment.Errorf("layer location %.100q: want docker://<registry>/v2/<repository>/blobs/sha256:<digest>", location)
	}
	name := m[1] + "/" + m[2]
	ref, err := auth.ParseImage(name) // Docker Hub goes by its API's name in such locations
	if err != nil || !reference.IsNameOnly(ref) {
		return augment.Layer{}, augment.Errorf("layer location %.100q: %q is not a repository", location, name)
	}
	d := digest.Digest(m[3])
	if want.Digest != "" && want.Digest != d {
		return augment.Layer{}, mismatch("gzipDigest", want.Digest, d)
	}
	want.Digest = d
	target := auth.Target{Identity: identity, Registry: reference.Domain(ref), Repository: reference.Path(ref)}
	return l.blob(ctx, target, false, want)
}

// blob takes in a blob of a repository. What was taken in before is not
// fetched again; the repository counts as the URL does in Remote. readable says that the
// repository can be read on behalf of the identity now. Otherwise its registry is asked
// about what was taken in before, because a credential may have been withdrawn.
func (l *Layers) blob(ctx context.Context, target auth.Target, readable bool, want Expected) (augment.Layer, error) {
	if err := l.upstream.Check(target); err != nil {
		return augment.Layer{}, err // though it may have been taken in before
	}
	want.devices = true
	name := fmt.Sprintf("docker://%s/v2/%s %s", target.Registry, target.Repository, target.Identity)
	right := layerRight{target, want.Digest}
	may := func(ctx context.Context) error { return l.mayHave(ctx, right) }
	if _, administrators := auth.RecipeOf(target.Identity); readable || administrators {
		may = nil // a server must start, although a registry of its recipes does not answer
	}
	return l.once(ctx, layerRecord(name, want.Digest), want, may, func(ctx context.Context) (augment.Layer, error) {
		blob := target.Registry + "/" + target.Repository + "@" + want.Digest.String()
		if want.Size > l.maxSize { // known before a byte has come
			return augment.Layer{}, tooLarge(blob, l.maxSize)
		}
		done, err := budget.From(ctx).Hold(budget.Fetches, 1)
		if err != nil {
			return augment.Layer{}, err
		}
		defer done()
		body, err := l.upstream.Repository(target).Layer(ctx, ocispec.Descriptor{Digest: want.Digest})
		if err != nil {
			return augment.Layer{}, err
		}
		defer body.Close()
		layer, err := l.spool(ctx, body, blob, want, l.Room)
		layer.Location = fmt.Sprintf("docker://%s/v2/%s/blobs/%s", target.Registry, target.Repository, want.Digest)
		if err == nil {
			l.rights.prove(right)
		}
		return layer, err
	})
}

// mayHave returns the registry's refusal to let a layer be read. While the registry is down
// or busy, what was taken in before is used.
func (l *Layers) mayHave(ctx context.Context, right layerRight) error {
	err := l.rights.check(ctx, l.upstream.Repository(right.target), right)
	if ctx.Err() == nil && upstream.IsTransient(err) {
		return nil
	}
	return err
}
