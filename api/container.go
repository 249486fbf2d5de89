package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/containerconfig"
	"github.com/waveproxy/waveproxy/front"
)

const (
	// maxName is what many clients allow for host, "/" and repository together.
	// See the implementers' note in the OCI distribution specification.
	maxName = 255
	// maxIncludes is Wave's limit.
	maxIncludes = 10
)

// postContainer augments an image and answers with the name to pull it by.
func (s server) postContainer(w http.ResponseWriter, r *http.Request) (any, error) {
	var req SubmitRequest
	in, err := s.receive(w, r, &req)
	if err != nil {
		return nil, err
	}
	defer in.release()
	unsupported, invalid := req.unsupported(), req.enumerated()
	if unsupported != nil && (invalid == nil || s.Forward != nil) { // a Wave server may know newer values
		return s.forward(r, in.data, unsupported)
	}
	if invalid != nil {
		return nil, invalid
	}
	in.dropBody()
	sub, err := s.check(&req, in.caller)
	if err == nil {
		err = s.resolveImages(r.Context(), &sub, s.asks(w, r, in.caller, false))
	}
	if err != nil {
		return nil, err
	}
	staged := s.Stage()
	defer staged.Close() // what it cannot remove, the next start of the server does
	if err := s.takeLayers(r.Context(), staged, &sub); err != nil {
		return nil, err
	}
	grant, err := s.Resolver.Resolve(r.Context(), assemble.ImageRequest{
		Identity: sub.identity, Ref: sub.image.ref, Base: sub.image.base, Recipe: sub.recipe.Upon(sub.image.recipe),
		Platforms: sub.platforms, Staged: staged, Upon: sub.grants(),
	})
	if err != nil {
		return nil, err
	}
	grant.Asked = auth.Asked{Timestamp: req.Timestamp, Fingerprint: req.Fingerprint}
	grant.Ancestors = sub.ancestors
	token, expires, err := s.Tokens.MintWithin(r.Context(), grant, sub.ttl, sub.longest, sub.until)
	if err != nil {
		return nil, err
	}
	return SubmitResponse{
		RequestID:      string(token),
		ContainerToken: string(token),
		TargetImage:    s.targetImage(token, &grant),
		Expiration:     formatTime(expires),
		ContainerImage: reference.TagNameOnly(sub.image.ref).String(),
		Succeeded:      true,
		SourceDigest:   grant.Base.String(),
		TargetDigest:   grant.Root.Digest.String(),
	}, nil
}

// submission is a request after every check that takes no I/O.
type submission struct {
	identity  string
	ref       reference.Named
	image     image // what ref stands for; set by resolveImages
	includes  []reference.Named
	included  []image // what includes stand for; set by resolveImages
	platforms []ocispec.Platform
	recipe    augment.Recipe // its layers are added by takeLayers
	layers    []containerconfig.Layer
	ttl       time.Duration
	longest   time.Duration // lifetime that the caller's policy allows; 0 is any
	// What the images that are names of this server leave to the new name: whose
	// revocation ends it, and when it ends at the latest. Set by resolveImages.
	ancestors []string
	until     time.Time
}

// madeOf has the new name end with a name of this server that the request names.
func (sub *submission) madeOf(img image) {
	for _, mark := range img.ancestors {
		if !slices.Contains(sub.ancestors, mark) {
			sub.ancestors = append(sub.ancestors, mark)
		}
	}
	if !img.expires.IsZero() && (sub.until.IsZero() || img.expires.Before(sub.until)) {
		sub.until = img.expires
	}
}

// grants returns the grants of this server's images that the request names.
func (sub *submission) grants() (grants []*auth.Grant) {
	for _, img := range append([]image{sub.image}, sub.included...) {
		if img.grant != nil {
			grants = append(grants, img.grant)
		}
	}
	return grants
}

// check returns the submission, or the first thing wrong with the request in the
// order of the package comment.
func (s server) check(req *SubmitRequest, caller auth.Caller) (sub submission, err error) {
	sub.identity = caller.Identity
	if err := req.bounded(); err != nil {
		return sub, err
	}
	if sub.ref, err = s.parseImages(req, &sub.includes); err != nil {
		return sub, err
	}
	if sub.platforms, err = allowedPlatforms(req.ContainerPlatform, caller.Policy); err != nil {
		return sub, err
	}
	if c := req.ContainerConfig; c != nil {
		sub.recipe = c.Recipe()
		if err := sub.recipe.Validate(); err != nil {
			return sub, front.Refuse(http.StatusBadRequest, front.Unsupported, "containerConfig%s: %v", askedBy(err), err)
		}
		for i, l := range c.Layers {
			if err := l.Check(fmt.Sprintf("containerConfig.layers[%d]", i)); err != nil {
				return sub, err
			}
			if err := s.checkElsewhere(i, l); err != nil {
				return sub, err
			}
		}
		sub.layers = c.Layers
	}
	if sub.ttl, err = parseTTL(req.TTL); err != nil {
		return sub, err
	}
	sub.longest = caller.Policy.TTL
	if sub.ttl, err = caller.Policy.CheckTTL(sub.ttl); err != nil {
		return sub, err
	}
	return sub, s.Tokens.CheckTTL(sub.ttl)
}

// resolveImages looks up the images that are names of this server.
func (s server) resolveImages(ctx context.Context, sub *submission, a asker) (err error) {
	if sub.image, err = s.resolve(ctx, "containerImage", sub.ref, a); err != nil {
		return err
	}
	if err := s.checkName(sub.image.ref); err != nil {
		return err
	}
	sub.madeOf(sub.image)
	if sub.platforms, err = sub.image.narrow(sub.platforms); err != nil {
		return err
	}
	for i, ref := range sub.includes {
		img, err := s.resolve(ctx, includeName(i), ref, a)
		if err != nil {
			return err
		}
		sub.included = append(sub.included, img)
		sub.madeOf(img)
	}
	return nil
}

// allowedPlatforms returns the platforms to augment: the requested ones, or all
// that the caller may have.
func allowedPlatforms(asked string, policy auth.Policy) ([]ocispec.Platform, error) {
	platforms, err := augment.ParsePlatforms(asked)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, p := range platforms {
		names = append(names, augment.FormatPlatform(p))
	}
	if names, err = policy.CheckPlatforms(names); err != nil {
		return nil, err
	}
	return augment.ParsePlatforms(strings.Join(names, ","))
}

// takeLayers adds the layers to the submission's recipe: the request's own layers,
// and above them the layers of the included images.
func (s server) takeLayers(ctx context.Context, staged blobstore.Store, sub *submission) error {
	taker := containerconfig.Taker{Layers: s.Layers, Staged: staged, MaxInline: s.MaxBody}
	for i, l := range sub.layers {
		layer, err := taker.Take(ctx, sub.identity, l)
		if err != nil {
			return inElement(layerName(i, l), err)
		}
		sub.recipe.Layers = append(sub.recipe.Layers, layer)
	}
	included := 0
	for i, img := range sub.included {
		layers, err := s.includedLayers(ctx, sub, img)
		if err != nil {
			return inElement(includeName(i), err)
		}
		if included += len(layers); included > assemble.MaxIncluded {
			return front.Refuse(http.StatusBadRequest, front.Unsupported, "containerIncludes (wave --include): the images have %d layers together, and at most %d are taken", included, assemble.MaxIncluded)
		}
		sub.recipe.Layers = append(sub.recipe.Layers, layers...)
	}
	return nil
}

// includedLayers returns the layers of an image that is laid over another.
func (s server) includedLayers(ctx context.Context, sub *submission, img image) ([]augment.Layer, error) {
	platforms, err := img.narrow(sub.platforms)
	if err != nil {
		return nil, err
	}
	ref, err := img.pinned()
	if err != nil {
		return nil, err
	}
	layers, err := s.Resolver.IncludedLayers(ctx, sub.identity, ref, platforms)
	return append(layers, img.recipe.Layers...), err
}

// targetImage returns the name to pull the grant's image by.
func (s server) targetImage(token auth.Token, grant *auth.Grant) string {
	_, path, _ := strings.Cut(grant.Image, "/")
	name := s.Host + "/wt/" + string(token) + "/" + path
	if grant.Tag != "" {
		return name + ":" + grant.Tag
	}
	return name + "@" + grant.Root.Digest.String()
}

// parseImages returns the image, and appends the images that it includes.
func (s server) parseImages(req *SubmitRequest, includes *[]reference.Named) (reference.Named, error) {
	ref, err := parseImage("containerImage", req.ContainerImage)
	if err != nil {
		return nil, err
	}
	if !s.isOwn(ref) {
		if err := s.checkName(ref); err != nil {
			return nil, err
		}
	}
	if n := len(req.ContainerIncludes); n > maxIncludes {
		return nil, front.Refuse(http.StatusBadRequest, front.Unsupported, "containerIncludes (wave --include) has %d images, and at most %d can be included", n, maxIncludes)
	}
	for i, image := range req.ContainerIncludes {
		included, err := parseImage(includeName(i), image)
		if err != nil {
			return nil, err
		}
		*includes = append(*includes, included)
	}
	return ref, nil
}

// checkName refuses an image whose name to pull would be too long.
func (s server) checkName(ref reference.Named) error {
	name := s.Host + "/wt/" + strings.Repeat("x", auth.TokenLength) + "/" + reference.Path(ref)
	if len(name) > maxName {
		return front.Refuse(http.StatusBadRequest, front.Unsupported, "containerImage %q: the name to pull would have %d characters with this server's host and the token, and container engines take %d", ref, len(name), maxName)
	}
	return nil
}

func parseImage(member, image string) (reference.Named, error) {
	if image == "" {
		return nil, front.Refuse(http.StatusBadRequest, front.Unsupported, "%s is missing: it must name an image", member)
	}
	ref, err := auth.ParseImage(image)
	if err != nil {
		return nil, front.Refuse(http.StatusBadRequest, front.Unsupported, "%s %.300q is not an image name: %v", member, image, err)
	}
	return ref, nil
}

func parseTTL(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	ttl, err := time.ParseDuration(text)
	if err != nil || ttl <= 0 {
		return 0, front.Refuse(http.StatusBadRequest, front.Unsupported, "ttl %.40q: want a duration such as 12h", text)
	}
	return ttl, nil
}

// formatTime returns a time as Java's Instant reads it.
func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }
