package upstream

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory" // the storage the configuration names
	"github.com/sirupsen/logrus"
)

// Server is a running registry. Its methods may be called concurrently.
type Server struct {
	Host string // "127.0.0.1:port", as image references need it
	URL  string // "http://127.0.0.1:port", or with https

	mu       sync.Mutex
	requests []string
}

// Registry starts an empty registry on a free port of 127.0.0.1 that accepts
// pushes and deletes without a login, and stops it when the test ends. It also
// serves library/schema1:latest, which cannot be pushed (see schema1.go). Like
// distribution itself, it knows Range requests and has no referrers API.
func Registry(t testing.TB) *Server {
	t.Helper()
	s, server := reserve()
	s.start(t, server, server.Start, withSchema1(distribution(t, nil)))
	return s
}

// reserve returns a server that has an address but does not serve yet, because
// some handlers need to know the address.
func reserve() (*Server, *httptest.Server) {
	server := httptest.NewUnstartedServer(nil)
	host := server.Listener.Addr().String()
	return &Server{Host: host, URL: "http://" + host}, server
}

func (s *Server) start(t testing.TB, server *httptest.Server, start func(), h http.Handler) {
	server.Config.Handler = s.record(h)
	start()
	t.Cleanup(server.Close)
}

// Requests returns the requests since the start or the last Reset, in the order
// of arrival, as "METHOD /path?query".
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Reset forgets the requests recorded so far.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
}

func (s *Server) record(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r.Method+" "+r.RequestURI)
		s.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

// silence is global because distribution logs to logrus' standard logger, and
// the package that could hand it another one is internal.
var silence = sync.OnceFunc(func() { logrus.SetOutput(io.Discard) })

func distribution(t testing.TB, auth configuration.Auth) http.Handler {
	silence()
	app := handlers.NewApp(context.WithoutCancel(t.Context()), &configuration.Configuration{
		Auth: auth,
		Storage: configuration.Storage{
			"inmemory": {},
			"delete":   {"enabled": true},
			// Without this a goroutine outlives the test.
			"maintenance": {"uploadpurging": map[any]any{"enabled": false}},
		},
	})
	t.Cleanup(func() {
		if err := app.Shutdown(); err != nil {
			t.Errorf("stop upstream registry: %v", err)
		}
	})
	return app
}
