package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/registry"
)

// Resolver computes augmented images. registry.Resolver is one.
type Resolver interface {
	Resolve(ctx context.Context, req registry.ImageRequest) (auth.Grant, error)
}

// Layers takes layers in. registry.Layers is one.
type Layers interface {
	Inline(ctx context.Context, staged blobstore.Store, data []byte, want registry.Expected) (augment.Layer, error)
	Remote(ctx context.Context, url string, want registry.Expected) (augment.Layer, error)
}

// Minter makes tokens. auth.Tokens is one.
type Minter interface {
	// Mint returns the token and when it expires. A ttl of zero is the default.
	Mint(ctx context.Context, g auth.Grant, ttl time.Duration) (auth.Token, time.Time, error)
	// CheckTTL tells before any work whether Mint would refuse the ttl.
	CheckTTL(ttl time.Duration) error
}

// Options are what the API is made of.
type Options struct {
	Resolver Resolver
	Layers   Layers
	Tokens   Minter
	Host     string // registry host in the image names handed out: "localhost:9090"
	MaxBody  int64  // of a request, in bytes
	Version  string // semantic version of this server
	Commit   string
	// Ready reports why requests cannot be served; nil means they can.
	Ready func(context.Context) error
}

type server struct{ Options }

// New returns the handler of all API endpoints.
func New(o Options) http.Handler {
	s := server{o}
	mux := http.NewServeMux()
	mux.Handle("POST /v1alpha2/container", endpoint(s.postContainer))
	mux.Handle("GET /service-info", endpoint(s.getServiceInfo))
	mux.Handle("GET /healthz", endpoint(getHealth))
	mux.Handle("GET /readyz", endpoint(s.getReady))
	mux.Handle("/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Without a pattern for its method a known path arrives here.
		if allowed := allowedMethod(r.URL.Path); allowed != "" {
			w.Header().Set("Allow", allowed)
			registry.WriteAPIError(w, r, registry.Refuse(http.StatusMethodNotAllowed, "%s takes %s, not %s", r.URL.Path, allowed, r.Method))
			return
		}
		registry.WriteAPIError(w, r, registry.Refuse(http.StatusNotFound, "no such endpoint: %s", registry.RedactPath(r.URL.Path)))
	}))
	return mux
}

func allowedMethod(path string) string {
	switch path {
	case "/v1alpha2/container":
		return http.MethodPost
	case "/service-info", "/healthz", "/readyz":
		return http.MethodGet
	}
	return ""
}

// endpoint answers with the JSON of what a handler returns.
type endpoint func(w http.ResponseWriter, r *http.Request) (any, error)

func (e endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	v, err := e(w, r)
	if err != nil {
		registry.WriteAPIError(w, r, err)
		return
	}
	data, err := json.Marshal(v)
	if err != nil {
		registry.WriteAPIError(w, r, fmt.Errorf("encode answer: %w", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(data, '\n')) // the client is gone; nothing is left to tell it
}

// decode reads a JSON request body into v. Unknown members are ignored, for
// old and new clients send more than we know.
func (s server) decode(w http.ResponseWriter, r *http.Request, v any) error {
	if t := r.Header.Get("Content-Type"); t != "" {
		if media, _, err := mime.ParseMediaType(t); err != nil || media != "application/json" {
			return registry.Refuse(http.StatusUnsupportedMediaType, "content type %q: want application/json", t)
		}
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.MaxBody))
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return registry.Refuse(http.StatusRequestEntityTooLarge, "the request is larger than %d bytes (api.max_body)", tooLarge.Limit)
	}
	if err != nil {
		return registry.Refuse(http.StatusBadRequest, "the request body could not be read: %v", err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return registry.Refuse(http.StatusBadRequest, "%s", describeJSON(err))
	}
	return nil
}

// describeJSON says where a document is wrong, without quoting it: what stands
// there may be a secret.
func describeJSON(err error) string {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Sprintf("the request is not valid JSON: %v at byte %d", syntax, syntax.Offset)
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		where := wrong.Field
		if where == "" {
			where = "the request"
		}
		return fmt.Sprintf("%s: a JSON %s does not belong there, want %s", where, wrong.Value, jsonKind(wrong.Type.String()))
	}
	return "the request is not valid: " + strings.ReplaceAll(err.Error(), "\n", " ")
}

func jsonKind(goType string) string {
	switch {
	case goType == "string":
		return "a string"
	case goType == "bool":
		return "true or false"
	case strings.HasPrefix(goType, "[]"):
		return "an array"
	case strings.HasPrefix(goType, "int"):
		return "a number"
	}
	return "an object"
}
