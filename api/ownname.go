package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/containerconfig"
	"github.com/waveproxy/waveproxy/front"
)

// Named tells what the names of recipes stand for. registry.Names is one.
type Named interface {
	// Named returns what a pull through a recipe would give: of the repository, or of a
	// digest there. ok is false if the component is not the name of a recipe.
	Named(ctx context.Context, component, repository string, d digest.Digest) (named assemble.NamedImage, ok bool, err error)
}

// image is an image that a request names. Every image but the upstream's is one of
// this server, and stands for a base image and what is added to it.
type image struct {
	ref reference.Named // the base image
	// base is the digest that the tag of ref was pinned to; empty: what it names now.
	base   digest.Digest
	recipe augment.Recipe // what is added to it; zero for an upstream's image
	// platforms are those that the image was made for; empty for all.
	platforms []string
	grant     *auth.Grant // nil if none was made yet
	own       bool
	// ancestors and expires are of an image that a token names: whose revocation ends
	// what is made of it, and when that ends at the latest.
	ancestors []string
	expires   time.Time
}

// ownPath is how the paths of this server's images begin.
const ownPath = "wt/"

// isOwn reports whether the name begins with a host of this server. A host that is
// listed as a registry, too, has other images beside ours.
func (s server) isOwn(ref reference.Named) bool {
	if !s.isHost(reference.Domain(ref)) {
		return false
	}
	return strings.HasPrefix(reference.Path(ref), ownPath) || s.Listed == nil || !s.Listed(reference.Domain(ref))
}

// isHost reports whether a registry's host is this server: the host of http.host, or
// this machine at the port of http.host.
func (s server) isHost(domain string) bool {
	own, err := auth.RegistryHost(s.Host)
	if err != nil {
		own = s.Host
	}
	if domain == own {
		return true
	}
	name, port, err := auth.SplitHost(domain)
	_, ownPort, ownErr := auth.SplitHost(own)
	if err != nil || ownErr != nil || port == "" || port != ownPort {
		return false
	}
	if name == "localhost" {
		return true
	}
	if ip := net.ParseIP(name); ip != nil {
		return ip.IsLoopback() || ip.IsUnspecified()
	}
	return slices.ContainsFunc(s.Names, func(host string) bool {
		known, _, err := auth.SplitHost(host)
		return err == nil && known == name
	})
}

// checkElsewhere refuses a layer that is at a name of this server. A request to
// ourselves would have no login of its own, and a proxy in front may not let it pass; an
// included image stands for the same layers.
func (s server) checkElsewhere(i int, l containerconfig.Layer) error {
	location, ok := l.Written()
	if !ok {
		return nil
	}
	u, err := url.Parse(location)
	if err != nil {
		return nil // it is refused where it is read
	}
	if host, err := auth.RegistryHost(u.Host); err != nil || !s.isHost(host) {
		return nil
	}
	if p := strings.TrimPrefix(path.Clean("/"+u.Path), "/v2"); strings.HasPrefix(p, "/"+ownPath) {
		return front.Refuse(http.StatusBadRequest, front.NameInvalid,
			"%s: this is a name of this server, which takes layers from other places only: name the layer at its own registry, or the image in containerIncludes (wave --include)", layerName(i, l))
	}
	return nil
}

// asker is who a name of this server is resolved for.
type asker struct {
	caller auth.Caller
	// pullLogin returns the error of a request without the login that pulls need.
	pullLogin func() error
	// shows says that the answer will show what a pull does. Otherwise the result has to
	// be pulled with a login again, and only what the configuration says of a recipe
	// needs one: the name of a recipe is no secret, as a token is.
	shows bool
}

// asks returns the asker of a request.
func (s server) asks(w http.ResponseWriter, r *http.Request, caller auth.Caller, shows bool) asker {
	return asker{caller: caller, shows: shows, pullLogin: func() error {
		if s.Pullers == nil {
			return nil
		}
		_, err := front.BasicLogin(w, r, s.Pullers, s.Guesses)
		if errors.Is(err, auth.ErrNoLogin) {
			return front.Refuse(http.StatusUnauthorized, front.Unauthorized,
				"images of this server are pulled with a login (registry.auth), and the request has none: send it as Authorization: Basic, or name the base image")
		}
		return err
	}}
}

// resolve returns what an image that a request names stands for. A name of this
// server is looked up and judged as at a pull, and never asked for over the network.
func (s server) resolve(ctx context.Context, member string, ref reference.Named, a asker) (image, error) {
	if !s.isOwn(ref) {
		return image{ref: ref}, nil
	}
	img, err := s.resolveOwn(ctx, ref, a)
	if err == nil && img.grant != nil {
		err = s.Resolver.Permit(ctx, a.caller.Identity, img.grant)
	}
	if err == nil {
		err = a.caller.Policy.CheckImage(reference.Domain(img.ref), reference.Path(img.ref))
	}
	if err == nil {
		return img, nil
	}
	for _, end := range []error{auth.ErrUnknownToken, auth.ErrExpiredToken, auth.ErrRevokedToken} {
		if errors.Is(err, end) {
			return image{}, front.Refuse(front.ProblemOf(err).Status, front.NameUnknown,
				"%s %.300q is a name of this server, and cannot be used: %v; name the base image instead, or request it anew", member, auth.Redact(ref.String()), strings.TrimSuffix(front.ProblemOf(err).Message, "; request a new one"))
		}
	}
	if p := front.ProblemOf(err); p.Status < http.StatusInternalServerError && p.RetryAfter == 0 {
		return image{}, front.Refuse(p.Status, front.Unsupported, "%s %.300q: %s", member, auth.Redact(ref.String()), p.Message)
	}
	return image{}, err
}

func (s server) resolveOwn(ctx context.Context, ref reference.Named, a asker) (image, error) {
	component, repository, _ := strings.Cut(strings.TrimPrefix(reference.Path(ref), ownPath), "/")
	if !strings.HasPrefix(reference.Path(ref), ownPath) || repository == "" {
		return image{}, front.Refuse(http.StatusBadRequest, front.NameInvalid,
			"this is the host of this server, whose images are called %s/wt/<token>/… or %s/wt/<recipe>/…; name an image of another registry without it", s.Host, s.Host)
	}
	var d digest.Digest
	if pinned, ok := ref.(reference.Digested); ok {
		d = pinned.Digest()
	}
	tag := ""
	if tagged, ok := ref.(reference.Tagged); ok {
		tag = tagged.Tag()
	}
	// Engines write /v2/ behind the component when this server is a mirror, and the
	// path is copied from their logs.
	repository = strings.TrimPrefix(repository, "v2/")
	if s.Named != nil {
		named, isRecipe, err := s.Named.Named(ctx, component, repository, d)
		if isRecipe && err == nil {
			err = a.pullLogin()
		}
		if isRecipe {
			return ofRecipe(named, tag, err)
		}
	}
	if a.shows {
		if err := a.pullLogin(); err != nil {
			return image{}, err
		}
	}
	return s.ofToken(ctx, auth.Token(component), repository, tag, d)
}

func ofRecipe(named assemble.NamedImage, tag string, err error) (image, error) {
	if err != nil {
		return image{}, err
	}
	if named.Grant != nil {
		return ofGrant(named.Grant)
	}
	img := image{ref: named.Ref, recipe: named.Recipe, own: true}
	if _, pinned := named.Ref.(reference.Digested); !pinned && tag != "" {
		img.ref, err = reference.WithTag(named.Ref, tag)
	}
	return img, err
}

// ofToken returns the image of a token. The token names one image, so its tag may be
// left out; another tag or digest is not that image.
func (s server) ofToken(ctx context.Context, token auth.Token, repository, tag string, d digest.Digest) (image, error) {
	described, err := s.Tokens.Describe(ctx, token)
	if err != nil {
		return image{}, err
	}
	g := described.Grant
	_, want, _ := strings.Cut(g.Image, "/")
	if repository != want {
		return image{}, front.Refuse(http.StatusForbidden, front.Denied, "this token is for the image %s, not for %q", want, auth.Redact(repository))
	}
	if d == "" && tag != "" && tag != g.Tag {
		return image{}, front.Refuse(http.StatusNotFound, front.ManifestUnknown, "this token is for %s, not for the tag %s", sourceImage(g), tag)
	}
	if d != "" && d != g.Root.Digest {
		return image{}, front.Refuse(http.StatusNotFound, front.ManifestUnknown,
			"this token is for the image with the digest %s: leave the digest out, and name a platform if one of its images is meant", g.Root.Digest)
	}
	img, err := ofGrant(g)
	img.ancestors, img.expires = append(slices.Clone(g.Ancestors), described.Mark), described.Expires
	return img, err
}

// ofGrant returns the image of a grant, whose base is the one that was pinned.
func ofGrant(g *auth.Grant) (image, error) {
	img := image{base: g.Base, recipe: g.Recipe, platforms: g.Platforms, grant: g, own: true}
	ref, err := auth.ParseImage(g.Image)
	if err != nil {
		return img, err
	}
	if g.Tag != "" {
		img.ref, err = reference.WithTag(ref, g.Tag)
		return img, err
	}
	img.ref, err = reference.WithDigest(ref, g.Base)
	return img, err
}

// pinned returns the base image by the digest that it was pinned to.
func (i image) pinned() (reference.Named, error) {
	if i.base == "" {
		return i.ref, nil
	}
	return reference.WithDigest(reference.TrimNamed(i.ref), i.base)
}

// narrow returns the platforms to make: those asked for, or all that the image was
// made for.
func (i image) narrow(asked []ocispec.Platform) ([]ocispec.Platform, error) {
	if len(i.platforms) == 0 {
		return asked, nil
	}
	if len(asked) == 0 {
		return augment.ParsePlatforms(strings.Join(i.platforms, ","))
	}
	for _, p := range asked {
		name := augment.FormatPlatform(p)
		if !slices.ContainsFunc(i.platforms, func(have string) bool {
			return strings.HasPrefix(name+"/", have+"/") || strings.HasPrefix(have+"/", name+"/")
		}) {
			return nil, front.Refuse(http.StatusBadRequest, front.Unsupported, "the image was made for %s, and not for %s: name the base image, %s, to have it for other platforms",
				strings.Join(i.platforms, ", "), name, i.ref)
		}
	}
	return asked, nil
}
