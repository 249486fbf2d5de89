package augment

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/internal/flight"
	"github.com/waveproxy/waveproxy/internal/sizedlru"
	"github.com/waveproxy/waveproxy/internal/unpack"
	"github.com/waveproxy/waveproxy/layerindex"
)

// Documents reads the manifests and configs of images. What it returns for a digest must
// have that digest.
type Documents interface {
	// Manifest returns the manifest or index that a tag or digest names. An error is
	// ErrAbsent only if the registry has said that there is none: never for a failure or
	// a refusal, because the image would be made without one of its platforms.
	Manifest(ctx context.Context, ref string) (Object, error)
	// Blob returns a config. Errors are as with Manifest.
	Blob(ctx context.Context, d ocispec.Descriptor) (Object, error)
}

// Source reads the base image.
type Source interface {
	Documents
	// Index returns what a layer does to the file system. The descriptor has the
	// annotations of its manifest. An *Error says that this cannot be known. Apply asks
	// for it only if where an added entry lands depends on it.
	Index(ctx context.Context, d ocispec.Descriptor) (*layerindex.Index, error)
	// Files returns the regular files and hard links of a layer that have these names,
	// which are clean. What is not there is missing from the result, which must not be
	// changed. Apply asks for them only if a recipe has certificates.
	Files(ctx context.Context, d ocispec.Descriptor, names []string) (map[string]layerindex.File, error)
}

// Request is one image to augment.
type Request struct {
	Name      string // full name for annotations and messages: docker.io/library/ubuntu:24.04
	Reference string // what to ask the Source for: a tag or a digest
	Recipe    Recipe
	// Platforms lists the platforms to augment. Empty means every platform that
	// the layers fit.
	Platforms []ocispec.Platform
	// Access names whose access the Source has. Concurrent requests for the same Name
	// with the same Access share what they read of the base image's layers.
	Access string
	// Archives holds the recipe's layers. A layer that must be changed to fit the
	// base image is stored there in its new form.
	Archives Archives
	// AddedIndex returns what a layer in Archives does to the file system; nil: the layer
	// is read from there each time.
	AddedIndex func(ctx context.Context, l Layer) (*layerindex.Index, error)
	// Made is told of each document that is to be made, and the bytes of memory that it
	// will have. Its error ends Apply. giveBack is called if the document was there
	// already. nil: it takes all.
	Made func(ctx context.Context, bytes int64) (giveBack func(), err error)
}

// Image is an augmented image.
type Image struct {
	Base    digest.Digest      // of the manifest or index that Reference names
	Root    ocispec.Descriptor // the augmented manifest or index
	Objects []Object           // every document of the image that was read or made, by digest
	Layers  []Layer            // the injected layers as they stand in the manifests, by digest
	// Platforms has the platforms of each manifest among Objects: what the entries of
	// indexes say decides, and its config has the rest. A platform without an
	// architecture is any.
	Platforms map[digest.Digest][]ocispec.Platform
	// Absent are the entries of indexes that were left out, because the registry does
	// not have their manifest or config. Remarks are other faults of the base image
	// that did not matter. Both are for people.
	Absent  []ocispec.Descriptor
	Remarks []string
}

// maxObject is the largest manifest that every registry and engine accepts, in
// bytes.
const maxObject = 4 << 20

// maxDepth bounds the nesting of indexes and maxImage the bytes of all documents
// of an image. maxChildren bounds the entries of all indexes together, the
// layers of a base image and the layers of a recipe. No real image comes near.
const (
	maxDepth    = 4
	maxChildren = 1024
	maxImage    = 64 << 20
)

// cachedResults is how many results are remembered, in each of two caches. One takes
// some hundred bytes for each layer.
const cachedResults = 4096

// Augmenter applies recipes. It is safe for concurrent use.
type Augmenter struct {
	maxLayers int
	prepared  *sizedlru.Cache[[sha256.Size]byte, prepared] // by inputs of prepare
	repacked  *lru.Cache[[sha256.Size]byte, Layer]         // by inputs of repack
	preparing flight.Group[prepared]
	repacking flight.Group[Layer]
}

// NewAugmenter returns an Augmenter that allows at most maxLayers layers in an
// image.
func NewAugmenter(maxLayers int) *Augmenter {
	repacked, _ := lru.New[[sha256.Size]byte, Layer](cachedResults) // only a size below one fails
	return &Augmenter{maxLayers: maxLayers, prepared: sizedlru.New[[sha256.Size]byte, prepared](preparedCost, 4*cachedResults, 0), repacked: repacked}
}

// Apply computes the augmented image. It is deterministic: the same base
// bytes, name, recipe and platforms give the same digests. The zero recipe
// gives the base itself. An *Error says that the image cannot be augmented as
// asked, an *Unfit around it that the recipe is not for it at all. Every other error
// comes from src, the archives or ctx.
func (a *Augmenter) Apply(ctx context.Context, src Source, req Request) (*Image, error) {
	if err := req.Recipe.Validate(); err != nil {
		return nil, Errorf("recipe: %v", err)
	}
	base, err := src.Manifest(ctx, req.Reference)
	if err != nil {
		return nil, err
	}
	w := &walk{
		Augmenter: a, src: src, Request: req, engines: enginesFor(req.Platforms), bindings: bindingsOf(req.Recipe.Layers),
		image: &Image{Base: base.Digest, Platforms: map[digest.Digest][]ocispec.Platform{}},
		seen:  map[digest.Digest]bool{}, written: map[digest.Digest]bool{}, injected: map[digest.Digest]bool{},
	}
	root, err := w.visit(ctx, base, nil, 0)
	if err == nil {
		err = w.checkPlatforms(root.object != nil)
	}
	if err != nil {
		return nil, w.asUnfit(err)
	}
	w.image.Root = root.object.Descriptor()
	// Entries of an index finish in any order.
	slices.SortFunc(w.image.Absent, func(a, b ocispec.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) })
	slices.Sort(w.image.Remarks)
	slices.SortFunc(w.image.Objects, func(a, b Object) int { return cmp.Compare(a.Digest, b.Digest) })
	slices.SortFunc(w.image.Layers, func(a, b Layer) int { return cmp.Compare(a.Digest, b.Digest) })
	return w.image, nil
}

// walk is the state of one Apply.
type walk struct {
	*Augmenter
	Request
	src      Source
	engines  []engine // for the request's platforms
	bindings bindings // of the recipe's layers

	mu       sync.Mutex // guards the fields below: entries of an index are visited in parallel
	image    *Image
	seen     map[digest.Digest]bool
	written  map[digest.Digest]bool // documents that were made
	injected map[digest.Digest]bool // layers of Image.Layers
	copied   int                    // bytes of entries of inner indexes that were written anew
	size     int                    // of the image's objects, in bytes
	entries  int                    // of its indexes
	have     []candidate
	made     []ocispec.Platform // of the images that were augmented
	absent   error              // of the first entry of Image.Absent
}

// result is what became of a manifest or index. The zero result is left out.
type result struct {
	object *Object // the augmented form
	// flat are entries that stand for an index of one platform, in the index around it.
	// Podman and CRI-O do not look into inner indexes.
	flat []json.RawMessage
	// plain says that the recipe is not for it, and lets it pass as it is.
	plain bool
	// platform is the platform of the image, or of all images of an index if it is one.
	platform *ocispec.Platform
}

// visit returns the augmented form of a manifest or index, the zero result if it is not
// for any wanted platform. declared is the platform in its index entry, nil if
// there is none.
func (w *walk) visit(ctx context.Context, o Object, declared *ocispec.Platform, depth int) (result, error) {
	var m members
	var k kind
	err := unpack.InTurn(ctx, len(o.Data), func() (err error) {
		if err := o.checkElements(); err != nil {
			return fmt.Errorf("%s: %w", w.Name, err)
		}
		if m, err = parseMembers(o.Data); err != nil {
			return Errorf("manifest %s of %s: %v", o.Digest, w.Name, err)
		}
		if k, o.MediaType, err = classify(o, m); err != nil {
			return fmt.Errorf("%s: %w", w.Name, err)
		}
		return nil
	})
	if err != nil {
		return result{}, err
	}
	if k == kindIndex {
		return w.visitIndex(ctx, o, m, declared, depth)
	}
	return w.visitManifest(ctx, o, m, declared)
}

func (w *walk) visitManifest(ctx context.Context, o Object, m members, declared *ocispec.Platform) (result, error) {
	var parts parts
	err := unpack.InTurn(ctx, len(o.Data), func() (err error) {
		if n, err := m.count("layers"); err != nil {
			return Errorf("manifest %s: %v", o.Digest, err)
		} else if n > maxChildren {
			return Errorf("%s has %d layers; this server takes %d", w.Name, n, maxChildren)
		}
		if parts, err = o.parts(); err != nil {
			return Errorf("manifest %s is not valid: %v", o.Digest, err)
		}
		return nil
	})
	if err != nil {
		return result{}, err
	}
	if reason := parts.notImage(o.MediaType, m); reason != "" {
		return result{}, w.leaveOut(o, declared, reason)
	}
	if err := parts.validate(); err != nil {
		return result{}, Errorf("manifest %s is not valid: %v", o.Digest, err)
	}
	refs := parts.references()
	config, err := w.src.Blob(ctx, *refs.Config)
	if err != nil {
		return result{}, err
	}
	config.MediaType = refs.Config.MediaType
	says, err := readConfig(ctx, config)
	if err != nil {
		return result{}, err
	}
	if says.RootFS == nil && len(refs.Layers) > 0 {
		return result{}, w.leaveOut(o, declared, "its config describes no file system")
	}
	platform := says.Platform
	if declared == nil {
		w.notePlatform(platform)
		if len(w.engines) > 0 && !slices.ContainsFunc(w.engines, func(e engine) bool { return e.takes(platform) }) {
			return result{}, nil
		}
	} else {
		platform = w.decide(o.Digest, *declared, platform)
	}
	if !w.fits(platform) {
		return result{plain: w.Recipe.Plain, platform: &platform}, nil
	}
	layers := w.fitting(platform)
	if !w.Recipe.IsZero() {
		base, was := baseImage{o, platform, refs.Layers}, config
		if layers, err = w.prepareTrusting(ctx, base, layers); err != nil {
			return result{}, err
		}
		config, o, err = w.rewrite(ctx, o, m, config, len(refs.Layers), layers)
		if err == nil {
			err = w.checkChain(ctx, base, was, config, layers)
		}
		if err != nil {
			return result{}, err
		}
	}
	w.addLayers(layers)
	w.noteMade(platform)
	w.mu.Lock()
	if !slices.ContainsFunc(w.image.Platforms[o.Digest], func(p ocispec.Platform) bool { return samePlatform(p, platform) }) {
		w.image.Platforms[o.Digest] = append(w.image.Platforms[o.Digest], platform)
	}
	w.mu.Unlock()
	if err := w.add(config); err != nil {
		return result{}, err
	}
	return result{object: &o, platform: &platform}, w.add(o)
}

// rewrite returns the config and the manifest of the augmented image. The base has n
// layers.
func (w *walk) rewrite(ctx context.Context, manifest Object, m members, config Object, n int, added []Layer) (newConfig, newManifest Object, err error) {
	err = unpack.InTurn(ctx, len(config.Data)+len(manifest.Data), func() error {
		rewritten, err := rewriteConfig(config, w.Recipe, n, added)
		if err != nil {
			return err
		}
		if newConfig, err = w.write(ctx, config.MediaType, rewritten); err != nil {
			return err
		}
		if rewritten, err = rewriteManifest(manifest, m, manifest.MediaType, newConfig, added, origin{w.Name, manifest.Digest}); err == nil {
			newManifest, err = w.write(ctx, manifest.MediaType, rewritten)
		}
		return err
	})
	return newConfig, newManifest, err
}

// leaveOut leaves out an entry of an index that is no image, valid or not. What the
// reference itself names is refused.
func (w *walk) leaveOut(o Object, declared *ocispec.Platform, reason string) error {
	if o.Digest == w.image.Base {
		return notImage("%s is not a container image: %s", w.Name, reason)
	}
	w.retractPlatform(declared)
	return nil
}
