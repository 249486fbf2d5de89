package api

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/ratelimit"
)

// fakes record their calls, in order, and give the answers that a test sets. The
// integration tests use the real ones.
type fakes struct {
	calls    []string
	resolved []assemble.ImageRequest
	inline   [][]byte
	revoked  []auth.Token
	closed   int // stagings

	description auth.Description
	inspection  assemble.Inspection
	accepted    bool
	err         error // of everything
	ready       error
	problems    []string
	longest     time.Duration // with which a token was minted last
	more        int           // layers that an included image has beside one
}

func (f *fakes) called(words ...string) error {
	f.calls = append(f.calls, strings.Join(words, " "))
	return f.err
}

func (f *fakes) Resolve(_ context.Context, req assemble.ImageRequest) (auth.Grant, error) {
	f.resolved = append(f.resolved, req)
	return auth.Grant{Image: req.Ref.Name(), Tag: "latest", Base: digest.FromString("base"),
		Root: ocispec.Descriptor{Digest: digest.FromString("root")}}, f.called("resolve", req.Identity, req.Ref.String())
}

func (f *fakes) IncludedLayers(_ context.Context, identity string, ref reference.Named, platforms []ocispec.Platform) ([]augment.Layer, error) {
	words := []string{"include", identity, ref.String()}
	for _, p := range platforms {
		words = append(words, augment.FormatPlatform(p))
	}
	return append(make([]augment.Layer, f.more), augment.Layer{Digest: digest.FromString(ref.String())}), f.called(words...)
}

func (f *fakes) Inspect(_ context.Context, identity string, ref reference.Named, platforms []ocispec.Platform) (assemble.Inspection, error) {
	words := []string{"inspect", identity, ref.String()}
	for _, p := range platforms {
		words = append(words, augment.FormatPlatform(p))
	}
	return f.inspection, f.called(words...)
}

func (f *fakes) InspectGrant(_ context.Context, identity string, g *auth.Grant, _ []ocispec.Platform) (assemble.Inspection, error) {
	return f.inspection, f.called("inspect grant", identity, g.Image)
}

func (f *fakes) InspectNamed(_ context.Context, identity string, ref reference.Named, _ augment.Recipe, _ []ocispec.Platform) (assemble.Inspection, error) {
	return f.inspection, f.called("inspect named", identity, ref.String())
}

func (f *fakes) Permit(context.Context, string, *auth.Grant) error { return nil }

func (f *fakes) CheckLogin(_ context.Context, host, username, password string) (bool, error) {
	return f.accepted, f.called("login", host, username, password)
}

func (f *fakes) Inline(_ context.Context, _ blobstore.Store, r io.Reader, want assemble.Expected) (augment.Layer, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return augment.Layer{}, err
	}
	f.inline = append(f.inline, data)
	return augment.Layer{Digest: want.Digest, Size: want.Size, DiffID: want.DiffID}, f.called("inline")
}

func (f *fakes) Remote(_ context.Context, url string, want assemble.Expected) (augment.Layer, error) {
	return augment.Layer{Digest: want.Digest}, f.called("remote", url)
}

func (f *fakes) Image(_ context.Context, identity, location string, want assemble.Expected) (augment.Layer, error) {
	return augment.Layer{Digest: want.Digest}, f.called("image", identity, location)
}

// staging tells when it is closed.
type staging struct {
	*blobstore.Mem
	f *fakes
}

func (f *fakes) stage() Staging { return staging{blobstore.NewMem(), f} }

func (s staging) Close() error {
	s.f.closed++
	return nil
}

// token has the form of a real token.
const token = auth.Token("cc2jfyafprq6y7r7v3ztw5cwhcsxwmqm3tbyb2i")

var (
	created = time.Date(2026, 1, 2, 3, 0, 0, 0, time.FixedZone("", 3600))
	expires = time.Date(2026, 1, 3, 15, 0, 0, 0, time.UTC)
)

func (f *fakes) MintWithin(_ context.Context, _ auth.Grant, ttl, longest time.Duration, _ time.Time) (auth.Token, time.Time, error) {
	f.longest = longest
	return token, expires.Add(ttl), f.called("mint")
}

func (f *fakes) CheckTTL(ttl time.Duration) error {
	if ttl > 36*time.Hour {
		return front.Refuse(http.StatusBadRequest, front.Unsupported, "token lifetime is too long")
	}
	return nil
}

func (f *fakes) Describe(context.Context, auth.Token) (auth.Description, error) {
	return f.description, f.called("describe")
}

func (f *fakes) Revoke(_ context.Context, t auth.Token) error {
	f.revoked = append(f.revoked, t)
	return f.called("revoke")
}

func newAPI(options ...func(*Options)) (*fakes, http.Handler) {
	f := &fakes{description: auth.Description{Grant: &auth.Grant{Image: "docker.io/library/a"}}}
	o := Options{Resolver: f, Registries: f, Layers: f, Tokens: f, Stage: f.stage, Host: "proxy.test:9090", MaxBody: 1 << 20, MaxElements: 1 << 15,
		Policies: auth.NewPolicies(nil), Guesses: front.NewGuesses(ratelimit.Rate{}), RegistryGuesses: front.NewGuesses(ratelimit.Rate{}),
		Version: "1.37.0", Commit: "abc", Ready: func(context.Context) ([]string, error) { return f.problems, f.ready }}
	for _, set := range options {
		set(&o)
	}
	return f, New(o)
}

func call(h http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "proxy.test:9090"
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// checkError checks an error answer: the status, the texts that it must have, and
// the form of all errors.
func checkError(t *testing.T, w *httptest.ResponseRecorder, status int, says string) {
	t.Helper()
	var body map[string]string
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatalf("status %d, body %q: %v", w.Code, w.Body, err)
	}
	message := body["message"]
	if w.Code != status || len(body) != 1 || !strings.Contains(message, says) || message == "" {
		t.Errorf("status %d, body %s; want %d and %q", w.Code, w.Body, status, says)
	}
	if strings.ContainsAny(message, "\n\r") || strings.Contains(message, string(token)) {
		t.Errorf("message %q: want one line without a token", message)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q", got)
	}
}

// checkJSON compares an answer with a JSON document.
func checkJSON(t *testing.T, w *httptest.ResponseRecorder, want string) {
	t.Helper()
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("status %d, content type %q", w.Code, w.Header().Get("Content-Type"))
	}
	if got, want := canonical(t, w.Body.Bytes()), canonical(t, []byte(want)); got != want {
		t.Errorf("answer\n%s\nwant\n%s", got, want)
	}
}

func canonical(t *testing.T, data []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%q: %v", data, err)
	}
	data, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// fixture returns a captured request of a real client.
func fixture(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
