package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/containerconfig"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/ratelimit"
)

// Resolver computes augmented images. assemble.Resolver is one.
type Resolver interface {
	Resolve(ctx context.Context, req assemble.ImageRequest) (auth.Grant, error)
	// IncludedLayers returns the layers of an image that is laid over another.
	IncludedLayers(ctx context.Context, identity string, ref reference.Named, platforms []ocispec.Platform) ([]augment.Layer, error)
}

// Registries answers questions about other registries. assemble.Resolver is
// one.
type Registries interface {
	Inspect(ctx context.Context, identity string, ref reference.Named, platforms []ocispec.Platform) (assemble.Inspection, error)
	// CheckLogin is false when the registry refused the login, and an error when
	// it could not be asked.
	CheckLogin(ctx context.Context, host, username, password string) (bool, error)
}

// Tokens makes, reads and ends tokens. auth.Tokens is one.
type Tokens interface {
	// Mint returns the token and when it expires. A ttl of zero is the default.
	Mint(ctx context.Context, g auth.Grant, ttl time.Duration) (auth.Token, time.Time, error)
	// CheckTTL tells before any work whether Mint would refuse the ttl.
	CheckTTL(ttl time.Duration) error
	Describe(ctx context.Context, t auth.Token) (auth.Description, error)
	Revoke(ctx context.Context, t auth.Token) error
}

// Options are what the API is made of.
type Options struct {
	Resolver   Resolver
	Registries Registries
	Layers     containerconfig.Layers
	Tokens     Tokens
	Host       string // registry host in the image names handed out: "localhost:9090"
	MaxBody    int64  // of a request, in bytes
	Version    string // semantic version of this server
	Commit     string
	// Ready reports why requests cannot be served; nil means they can.
	Ready func(context.Context) error
	// Passwords are those of the callers; nil if they do not log in by password.
	Passwords front.Passwords
	// Bearer knows the tokens of callers; nil if they have none. Not both.
	Bearer auth.Bearer
	// Policies are what callers may do.
	Policies *auth.Policies
	// Submits is how often a caller, or an address if nobody logs in, may make the
	// server work; nil for any number of times.
	Submits *ratelimit.Limiter
	// Guesses limits wrong logins.
	Guesses *front.Guesses
	// Admins are the passwords of those who may end tokens; nil for nobody.
	Admins front.Passwords
	// Forward is a Wave server, as a base URL without a path, that gets the
	// requests this one does not serve. Nil refuses them.
	Forward *url.URL
	// Client reaches Forward. Its redirect policy is not used. Nil is a plain
	// client.
	Client *http.Client
}

type server struct {
	Options
	bodies bodies
}

// New returns the handler of all API endpoints.
func New(o Options) http.Handler {
	client := http.Client{}
	if o.Client != nil {
		client = *o.Client
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	o.Client = &client
	return serve(server{o, bodies{semaphore.NewWeighted(bodiesAtOnce * o.MaxBody)}}.routes())
}

// endpoint answers with what a handler returns: an answer as it is, the JSON
// of any other value, and an empty body for nil.
type endpoint func(w http.ResponseWriter, r *http.Request) (any, error)

// answer is one that was not made from a Go value.
type answer struct {
	status      int
	contentType string
	retryAfter  string
	body        []byte
}

func (e endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	v, err := e(w, r)
	if err != nil {
		front.WriteAPIError(w, r, err)
		return
	}
	a, made := v.(answer)
	if !made {
		if a, err = encode(v); err != nil {
			front.WriteAPIError(w, r, err)
			return
		}
	}
	for name, value := range map[string]string{"Content-Type": a.contentType, "Retry-After": a.retryAfter} {
		if value != "" {
			w.Header().Set(name, value)
		}
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // the client is gone; nothing is left to tell it
}

func encode(v any) (answer, error) {
	if v == nil {
		return answer{status: http.StatusOK}, nil
	}
	data, err := json.Marshal(v)
	if err != nil {
		return answer{}, fmt.Errorf("encode answer: %w", err)
	}
	return answer{status: http.StatusOK, contentType: "application/json", body: append(data, '\n')}, nil
}
