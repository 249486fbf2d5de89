package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"github.com/waveproxy/waveproxy/auth"
)

func TestMain(m *testing.M) {
	// Each LRU has a goroutine that expires entries as long as the process lives.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/golang-lru/v2/expirable.NewLRU[...].func1"))
}

// server is a scripted host on loopback that notes what reaches it.
type server struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string
}

// newServer serves h. Requests are noted as "GET /path Scheme token".
func newServer(t *testing.T, h http.HandlerFunc) *server {
	return startServer(t, h, (*httptest.Server).Start)
}

func startServer(t *testing.T, h http.HandlerFunc, start func(*httptest.Server)) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization")))
		s.mu.Unlock()
		h(w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what some tests are about
	start(s.Server)
	t.Cleanup(s.Close)
	return s
}

func (s *server) host() string { return s.Listener.Addr().String() }

// seen returns the requests since it was last called.
func (s *server) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.requests = nil }()
	return s.requests
}

func (s *server) wantSeen(t *testing.T, want ...string) {
	t.Helper()
	if got := s.seen(); !slices.Equal(got, want) {
		t.Errorf("requests:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// newClient returns a client for which time passes at once: it notes the delays
// between retries instead of waiting.
func newClient(t *testing.T, o Options) (*Client, *delays) {
	t.Helper()
	d := &delays{}
	o.UserAgent, o.Wait = "waveproxy/test", d.wait
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c, d
}

type delays struct {
	mu  sync.Mutex
	all []time.Duration
}

func (d *delays) wait(ctx context.Context, delay time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, delay)
	return ctx.Err()
}

func (d *delays) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.all)
}

// listed makes the server reachable as the registry example.org.
func listed(s *server) Options {
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
		for _, secret := range []string{"\n", "hunter2", "s3cr3t", "signature", "body of the answer"} {
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

func keychain(credential auth.Credential) auth.Keychain {
	return auth.Static(map[string]auth.Credential{"example.org": credential})
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		fmt.Fprint(w, "the body of the answer")
	}
}
