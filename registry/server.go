package registry

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/blobstore/cache"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/ratelimit"
	"github.com/waveproxy/waveproxy/upstream"
)

// Tokens tells what a token stands for. Errors are auth.ErrUnknownToken,
// auth.ErrExpiredToken, auth.ErrRevokedToken or of the storage behind it.
type Tokens interface {
	Open(ctx context.Context, t auth.Token) (*auth.Grant, error)
}

// Resolver makes the images of named recipes. assemble.Resolver is one.
type Resolver interface {
	// Resolve returns the grant for the image that the reference names now with the
	// recipe applied. By then every byte that we serve for it is stored.
	Resolve(ctx context.Context, req assemble.ImageRequest) (auth.Grant, error)
	// Digest returns what a tag names now without reading it, or "" if the registry
	// does not say.
	Digest(ctx context.Context, target auth.Target, tag string) (digest.Digest, error)
	// Source reads the manifests of a repository as they are.
	Source(target auth.Target) augment.Source
}

// Options has the parts of a Server.
type Options struct {
	Tokens   Tokens
	Store    blobstore.Store
	Upstream *upstream.Client
	Log      *slog.Logger
	// Cache keeps the upstream's blobs; nil streams them each time.
	Cache *cache.Cache
	// Recipes are the recipes that images can be pulled through by name; nil for
	// none. They need Resolver and Grants.
	Recipes  Recipes
	Resolver Resolver
	Grants   Grants
	Records  Records // lists what Grants has; required with Recipes
	// Aliases maps other names to registries, in paths under a recipe's name. The
	// name of a registry with a port needs one, because the path of a repository
	// cannot hold a colon.
	Aliases map[string]string
	// Names are the names of this server besides addresses and those that are not public.
	// Without logins, a browser reads recipes under them only.
	Names []string
	// Passwords checks the login that every request needs besides the token or the
	// recipe in the image's name; nil asks for no login.
	Passwords front.Passwords
	Guesses   *front.Guesses // limits wrong logins; needed with Passwords
	// Platforms returns those that an identity's policy limits it to. Nil limits none.
	Platforms func(identity string) []string
	// Pulls limits how often a user, or an address without logins, may pull; nil for
	// no limit.
	Pulls *ratelimit.Limiter

	now func() time.Time // nil is time.Now
}

// Server answers the registry protocol. It is safe for concurrent use.
type Server struct {
	options Options
	tokens  *tokenImages
	blobs   blobSources
	named   *named // nil if Options.Recipes is
}

// New returns a Server for /v2/ and /wt/.
func New(o Options) *Server {
	s := &Server{options: o, tokens: newTokenImages(o.Tokens, o.Store, o.Platforms)}
	s.blobs = blobSources{storedBlobs{}, attestedBlobs{}}
	if o.Cache != nil {
		s.blobs = append(s.blobs, newCachedBlobs(o.Cache, o.Upstream))
	}
	s.blobs = append(s.blobs, streamedBlobs{o.Upstream})
	if o.Recipes != nil {
		s.named = newNamed(o)
	}
	return s
}

// ServeHTTP takes the first three steps of the package comment: method, login and
// path.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		front.WriteError(w, r, front.Refuse(http.StatusMethodNotAllowed, front.Unsupported, "this registry is read-only: %s is not supported", r.Method))
		return
	}
	rt, ok := parseRoute(r.URL.Path)
	front.RecordOf(r.Context()).Kind = rt.kind.String()
	user := ""
	if s.options.Passwords != nil {
		var err error
		if user, err = front.BasicLogin(w, r, s.options.Passwords, s.options.Guesses); err != nil {
			front.WriteError(w, r, err)
			return
		}
	}
	if !ok {
		front.WriteError(w, r, malformed(r.URL.Path))
		return
	}
	if err := s.serve(w, r, rt, user); err != nil {
		front.WriteError(w, r, err)
	}
}

// serve writes a whole response, or nothing and returns an error.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, rt route, user string) error {
	switch {
	case rt.kind == kindPing:
		if err := s.checkRecipe(string(rt.token)); err != nil {
			return err
		}
		return serveJSON(w, r, "application/json", struct{}{})
	case s.named != nil && isRecipe(string(rt.token)) && s.options.Recipes.Enabled():
		return s.serveNamed(w, r, rt, user)
	}
	return s.serveToken(w, r, rt, user)
}

// checkRecipe returns a refusal if a ping is for a recipe that is not in force, so that "waveproxy hosts" finds mistyped names.
func (s *Server) checkRecipe(name string) error {
	if s.named == nil || name == "" || !isRecipe(name) || !s.options.Recipes.Enabled() {
		return nil
	}
	_, err := findRecipe(s.options.Recipes, name)
	return err
}

// serveToken is serve for an image that a token stands for.
func (s *Server) serveToken(w http.ResponseWriter, r *http.Request, rt route, user string) error {
	img, err := s.tokens.image(r.Context(), rt.token)
	if err != nil {
		return err
	}
	if want := img.target.Repository; rt.name != want {
		return front.Refuse(http.StatusForbidden, front.Denied, "this token is for the image %s, not for %q", want, auth.Redact(rt.name))
	}
	if err := permit(r.Context(), s.options.Upstream, img); err != nil {
		return err
	}
	if err := img.holdFor(r.Context()); err != nil {
		return err
	}
	switch rt.kind {
	case kindManifest:
		event := string(rt.token)
		if img.late.has(rt.digest) { // it takes an upstream request, and is charged by itself
			event += " " + rt.digest.String()
		}
		if err := s.countPull(r.Context(), user, event); err != nil {
			return err
		}
		return s.serveManifest(w, r, img, rt)
	case kindBlob:
		return s.serveBlob(w, r, img, rt.digest)
	case kindTags:
		return serveTags(w, r, img, rt)
	default:
		return serveReferrers(w, r, img, rt.digest)
	}
}

// countPull charges one pull of the image, however many manifest requests it
// takes. Blobs are free, because a client that has the manifest must be able to
// finish.
func (s *Server) countPull(ctx context.Context, user, image string) error {
	client := "user " + user
	shown := client
	if user == "" {
		client = front.ClientOf(ctx)
		shown = "address " + client
	}
	if wait := s.options.Pulls.TakeOnce(client, image); wait > 0 {
		return front.Limited(wait, "too many pulls by the %s: at most %s are allowed", shown, s.options.Pulls.Rate())
	}
	return nil
}

// splitName splits a normalised repository name into registry and path.
func splitName(name string) (domain, path string) {
	domain, path, _ = strings.Cut(name, "/")
	return domain, path
}
