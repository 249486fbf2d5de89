package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/containerconfig"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/ratelimit"
)

// Resolver computes augmented images. assemble.Resolver is one.
type Resolver interface {
	Resolve(ctx context.Context, req assemble.ImageRequest) (auth.Grant, error)
	// IncludedLayers returns the layers of an image that is laid over another.
	IncludedLayers(ctx context.Context, identity string, ref reference.Named, platforms []ocispec.Platform) ([]augment.Layer, error)
	// Permit returns the error with which a pull of the grant's image would be refused
	// now, to the grant's own identity or to the one that asks.
	Permit(ctx context.Context, identity string, g *auth.Grant) error
}

// Registries answers questions about other registries. assemble.Resolver is
// one.
type Registries interface {
	Inspect(ctx context.Context, identity string, ref reference.Named, platforms []ocispec.Platform) (assemble.Inspection, error)
	// InspectGrant reads an image of this server as a pull gives it.
	InspectGrant(ctx context.Context, identity string, g *auth.Grant, platforms []ocispec.Platform) (assemble.Inspection, error)
	// InspectNamed reads the image that a tag under a recipe stands for.
	InspectNamed(ctx context.Context, identity string, ref reference.Named, recipe augment.Recipe, platforms []ocispec.Platform) (assemble.Inspection, error)
	// CheckLogin returns false if the registry refused the login, and an error if it
	// did not answer.
	CheckLogin(ctx context.Context, host, username, password string) (bool, error)
}

// Staging is a store that is emptied by Close.
type Staging interface {
	blobstore.Store
	io.Closer
}

// Tokens makes, reads and ends tokens. auth.Tokens is one.
type Tokens interface {
	// MintWithin returns the token and when it expires. A ttl of zero is the default.
	// The token lives for longest and no longer, and ends at last at the latest; zero is
	// no limit.
	MintWithin(ctx context.Context, g auth.Grant, ttl, longest time.Duration, last time.Time) (auth.Token, time.Time, error)
	// CheckTTL returns the error with which Mint would refuse the ttl, before any work
	// is done.
	CheckTTL(ttl time.Duration) error
	Describe(ctx context.Context, t auth.Token) (auth.Description, error)
	Revoke(ctx context.Context, t auth.Token) error
}

// Options configure the API. All fields without a nil rule are required.
type Options struct {
	Resolver   Resolver
	Registries Registries
	Layers     containerconfig.Layers
	// Stage returns a store for the layers that come with one request.
	Stage  func() Staging
	Tokens Tokens
	Host   string // registry host in the image names handed out: "localhost:9090"
	// URL is where clients reach this server, without a path: "http://localhost:9090".
	URL     string
	MaxBody int64 // of a request, in bytes
	// Named has the recipes of the configuration; nil for none.
	Named Named
	// Listed reports whether a host is among the registries of the configuration. One that
	// is also this server has other images beside ours. Nil: none is.
	Listed func(host string) bool
	// Pullers check the logins that pulls need; nil if pulls need none.
	Pullers front.Passwords
	// MaxElements bounds the JSON elements of a request.
	MaxElements int
	// Names are further hosts that clients may ask for, with or without a port.
	Names   []string
	Version string // semantic version of this server
	Commit  string
	// Ready reports why requests cannot be served; nil means they can, but for what the
	// problems tell. Both texts are for clients.
	Ready func(context.Context) (problems []string, err error)
	// Passwords check the logins of callers; nil if callers log in otherwise or not.
	Passwords front.Passwords
	// Bearer checks the tokens of callers; nil if there are none. At most one of
	// Passwords and Bearer is set.
	Bearer auth.Bearer
	// Policies are what callers may do.
	Policies *auth.Policies
	// Submits limits the requests of a caller that make the server work, or of an
	// address without login; nil is no limit.
	Submits *ratelimit.Limiter
	// Guesses limits wrong logins.
	Guesses *front.Guesses
	// RegistryGuesses limits wrong logins to other registries that callers have
	// checked.
	RegistryGuesses *front.Guesses
	// Admins check the logins of admins, who may end tokens; nil refuses that.
	Admins front.Passwords
	// Forward is the base URL, without a path, of a Wave server that gets the requests
	// this server does not serve. Nil refuses them.
	Forward *url.URL
	// Client reaches Forward. Its redirect policy is not used. Nil is a plain
	// client.
	Client *http.Client
}

type server struct{ Options }

// New returns the handler of all API endpoints.
func New(o Options) http.Handler {
	client := http.Client{}
	if o.Client != nil {
		client = *o.Client
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	o.Client = &client
	return serve(server{o}.routes())
}

// endpoint is a handler that returns its answer: an answer is sent as it is, nil as
// an empty body, any other value as JSON.
type endpoint func(w http.ResponseWriter, r *http.Request) (any, error)

// smallAnswer is the largest answer that is not charged: a connection costs more.
const smallAnswer = 4 << 10

// answer is a response that is not the JSON of a Go value.
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
		if a, err = encode(r.Context(), v); err != nil {
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

// encode returns the value as an answer. A large one is charged to the request until
// the client has taken it.
func encode(ctx context.Context, v any) (answer, error) {
	if v == nil {
		return answer{status: http.StatusOK}, nil
	}
	data, err := json.Marshal(v)
	if err != nil {
		return answer{}, fmt.Errorf("encode answer: %w", err)
	}
	if len(data) > smallAnswer {
		if err := budget.HoldFor(ctx, budget.Memory, int64(len(data))); err != nil {
			return answer{}, err
		}
	}
	return answer{status: http.StatusOK, contentType: "application/json", body: append(data, '\n')}, nil
}
