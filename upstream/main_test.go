package upstream

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

func TestMain(m *testing.M) {
	// Each LRU has a goroutine that expires entries as long as the process lives.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/golang-lru/v2/expirable.NewLRU[...].func1"))
}

// newServer returns a host that answers everything with h.
func newServer(t *testing.T, h http.HandlerFunc) *upstreamtest.Registry {
	t.Helper()
	return startServer(t, h, (*httptest.Server).Start)
}

func startServer(t *testing.T, h http.HandlerFunc, start func(*httptest.Server)) *upstreamtest.Registry {
	t.Helper()
	s := upstreamtest.NewUnstarted(t)
	s.Answer(h)
	start(s.Server)
	return s
}

// newClient returns a client whose pauses are recorded and skipped.
func newClient(t *testing.T, o Options) (*Client, *upstreamtest.Pauses) {
	t.Helper()
	pauses := &upstreamtest.Pauses{}
	o.UserAgent, o.Wait = "waveproxy/test", pauses.Wait
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c, pauses
}

// direct returns the client's transports without a proxy.
func direct(c *Client, listed bool, host string) transports {
	return c.hops.routes.Load().transports(route{listed: listed, host: host}, nil, nil)
}

// listed makes the server reachable as the registry example.org.
func listed(s *upstreamtest.Registry) Options {
	return Options{Registries: map[string]Registry{"example.org": {URL: s.URL}}}
}

var image = auth.Target{Registry: "example.org", Repository: "team/app"}

const manifestPath = "/v2/team/app/manifests/1.0"

var manifestBody = []byte(`{"schemaVersion":2}`)

func serveManifest(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
	_, _ = w.Write(manifestBody)
}

// wantManifest reads team/app:1.0 and expects the body above.
func wantManifest(t *testing.T, c *Client, target auth.Target) {
	t.Helper()
	o, err := c.Repository(target).Manifest(t.Context(), "1.0")
	if err != nil {
		t.Fatal(err)
	}
	if o.Digest != digest.FromBytes(manifestBody) || string(o.Data) != string(manifestBody) {
		t.Errorf("got %s %q", o.Digest, o.Data)
	}
}

// wantError checks the kind of an error, and that its text is one line that
// has the wanted parts and none of the secrets of these tests.
func wantError(t *testing.T, err error, kind Kind, parts ...string) *Error {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("error is %T: %v", err, err)
	}
	if e.Kind != kind {
		t.Errorf("kind %d, want %d: %v", e.Kind, kind, e)
	}
	for _, part := range parts {
		if !strings.Contains(e.Error(), part) {
			t.Errorf("error %q does not say %q", e, part)
		}
	}
	texts := []string{e.Error()}
	for cause := errors.Unwrap(e); cause != nil; cause = errors.Unwrap(cause) {
		texts = append(texts, cause.Error())
	}
	for _, text := range texts {
		for _, secret := range []string{"\n", "hunter2", "s3cr3t", "signature", upstreamtest.ErrorBody} {
			if strings.Contains(text, secret) {
				t.Errorf("error %q shows %q", text, secret)
			}
		}
	}
	return e
}

// manifestError reads team/app:1.0 and returns the error.
func manifestError(t *testing.T, c *Client, target auth.Target) error {
	t.Helper()
	o, err := c.Repository(target).Manifest(t.Context(), "1.0")
	if err == nil {
		t.Fatalf("no error, but %q", o.Data)
	}
	return err
}

// The answers of most tests.
var status, inTurn = upstreamtest.Status, upstreamtest.InTurn

func keychain(credential auth.Credential) auth.Keychain {
	return auth.Static(map[string]auth.Credential{"example.org": credential})
}
