package cloudtest

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/waveproxy/waveproxy/auth/internal/cloud"
)

// Main runs the tests of a package, for TestMain. It empties the environment, home
// directory included, and points the metadata services that have a setting for it at
// a closed port. It fails if a goroutine is left or a connection was to leave the
// machine.
func Main(m *testing.M) {
	os.Clearenv()
	home, err := os.MkdirTemp("", "cloudtest")
	if err != nil {
		panic(err)
	}
	for name, value := range map[string]string{
		"HOME":                              home,
		"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1",
		"GCE_METADATA_HOST":                 "127.0.0.1:1",
		"NO_PROXY":                          "*",
	} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := os.RemoveAll(home); err != nil {
			panic(err)
		}
		if strays := escaped.all(); len(strays) > 0 {
			fmt.Println("connections were to leave this machine:", strays)
			code = 1
		}
		os.Exit(code)
	}))
}

// escaped are the addresses that were refused.
var escaped strays

type strays struct {
	mu        sync.Mutex
	addresses []string
}

func (s *strays) refuse(address string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addresses = append(s.addresses, address)
	return fmt.Errorf("%s is not on this machine", address)
}

func (s *strays) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addresses
}

// Stay keeps the dialer on this machine: it connects to loopback only and asks no
// name server.
func Stay(d *net.Dialer) {
	d.Control = func(_, address string, _ syscall.RawConn) error {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return err
		}
		if !net.ParseIP(host).IsLoopback() {
			return escaped.refuse(address)
		}
		return nil
	}
	d.Resolver = &net.Resolver{PreferGo: true, Dial: func(_ context.Context, _, server string) (net.Conn, error) {
		return nil, escaped.refuse("name server " + server)
	}}
}

// Client returns a cloud.Client that connects to loopback only. A "host:port" in
// routes leads to its stand-in.
func Client(routes map[string]*Server) *http.Client {
	t := cloud.Transport(nil)
	dialer := &net.Dialer{}
	Stay(dialer)
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if s, ok := routes[address]; ok {
			address = s.Listener.Addr().String()
		}
		return dialer.DialContext(ctx, network, address)
	}
	t.TLSClientConfig = &tls.Config{ServerName: "example.com"} // the name in httptest's certificate
	for _, s := range routes {
		if s.TLS != nil {
			t.TLSClientConfig.RootCAs = s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
		}
	}
	return cloud.Client(t)
}

// Request is a request that a stand-in received.
type Request struct {
	Method string
	Host   string
	Path   string
	Header http.Header
	Form   url.Values // from the query and from a body of that type
	Body   string
}

// Server is a stand-in that keeps its requests. Safe for concurrent use.
type Server struct {
	*httptest.Server
	mu       sync.Mutex
	requests []Request
}

// NewServer starts a stand-in that speaks plain HTTP. It ends with the test.
func NewServer(t *testing.T, answer func(http.ResponseWriter, Request)) *Server {
	return start(t, answer, (*httptest.Server).Start)
}

// NewTLSServer starts a stand-in that speaks TLS. It ends with the test.
func NewTLSServer(t *testing.T, answer func(http.ResponseWriter, Request)) *Server {
	return start(t, answer, (*httptest.Server).StartTLS)
}

func start(t *testing.T, answer func(http.ResponseWriter, Request), start func(*httptest.Server)) *Server {
	t.Helper()
	s := &Server{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		if err := r.ParseForm(); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		request := Request{Method: r.Method, Host: r.Host, Path: r.URL.Path, Header: r.Header, Form: r.Form, Body: string(body)}
		s.mu.Lock()
		s.requests = append(s.requests, request)
		s.mu.Unlock()
		answer(w, request)
	}))
	start(s.Server)
	t.Cleanup(s.Close)
	return s
}

// Requests returns all requests so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// Count returns how many requests there were.
func (s *Server) Count() int { return len(s.Requests()) }

// JSON writes an answer in JSON.
func JSON(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprint(w, body)
}

// Secret returns a word that begins with the name and is as long as a token.
func Secret(name string) string { return name + strings.Repeat("-0123456789abcdef", 16) }

// WantError checks that an error is one line with all parts, and that it contains
// neither a secret nor, in its chain, an error of the clouds' libraries.
func WantError(t *testing.T, err error, secrets []string, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	text := fmt.Sprintf("%v %+v %#v", err, err, err)
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
	for _, secret := range append(secrets, "\n") {
		if strings.Contains(text, secret) {
			t.Errorf("error %q shows %q", text, secret)
		}
	}
	for ; err != nil; err = unwrap(err) {
		if kind := fmt.Sprintf("%T", err); kind != "*fmt.wrapError" && kind != "*errors.errorString" && !strings.HasPrefix(kind, "context.") {
			t.Errorf("a %s is in the chain", kind)
		}
	}
}

func unwrap(err error) error {
	if e, ok := err.(interface{ Unwrap() error }); ok {
		return e.Unwrap()
	}
	return nil
}

// Clock is set by hand. The zero Clock stands at the real time it is first asked.
type Clock struct {
	mu sync.Mutex
	t  time.Time
}

// Now returns the clock's time, for cloud.NewCache.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.t.IsZero() {
		c.t = time.Now()
	}
	return c.t
}

// Advance moves the clock forward by d.
func (c *Clock) Advance(d time.Duration) {
	now := c.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = now.Add(d)
}
