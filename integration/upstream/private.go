package upstream

import (
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd" // the access controllers
	_ "github.com/distribution/distribution/v3/registry/auth/token"    // the configurations name
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	"golang.org/x/crypto/bcrypt"
)

// User may log in to a private registry.
type User struct {
	Name, Password string
	// IdentityToken logs in at a token server in place of the password, if not
	// empty.
	IdentityToken string
	// Repositories are the repositories that the user gets tokens for:
	// "team/app", or "*" for all. HTTP Basic has no such limits.
	Repositories []string
	// Push lets the user push to these repositories, too.
	Push bool
}

func (u User) may(action, repository string) bool {
	return (action == "pull" || action == "push" && u.Push) &&
		(slices.Contains(u.Repositories, repository) || slices.Contains(u.Repositories, "*"))
}

// Private is a registry that requires a login. Its access controller is
// distribution's own.
type Private struct {
	*Server
	// CA is a PEM file with the certificate of the server, if it has one.
	CA string
	// Tokens gives out the registry's tokens. It is nil for HTTP Basic.
	Tokens *TokenServer

	client   *http.Client
	users    []User
	htpasswd string
	meet     atomic.Pointer[func(*http.Request)]
}

// TokenRegistry starts an empty registry that takes the tokens of a token server.
// The token server has the same address, because clients that push refuse a token
// server at another private address. Both stop when the test ends.
func TokenRegistry(t testing.TB, users ...User) *Private {
	t.Helper()
	return tokenRegistry(t, false, users)
}

// TLSTokenRegistry is a TokenRegistry with a certificate that no client trusts by
// default.
func TLSTokenRegistry(t testing.TB, users ...User) *Private {
	t.Helper()
	return tokenRegistry(t, true, users)
}

func tokenRegistry(t testing.TB, secure bool, users []User) *Private {
	t.Helper()
	tokens, keys := newTokenServer(t, users)
	return private(t, secure, &Private{Tokens: tokens, users: users}, func(url string) http.Handler {
		registry := tokens.watch(distribution(t, configuration.Auth{"token": {
			"realm": url + tokenPath, "service": tokenService, "issuer": tokenIssuer, "jwks": keys,
		}}))
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == tokenPath {
				tokens.ServeHTTP(w, r)
				return
			}
			registry.ServeHTTP(w, r)
		})
	})
}

// HtpasswdRegistry starts an empty registry with HTTP Basic authentication, where
// every user may do everything. It stops when the test ends.
func HtpasswdRegistry(t testing.TB, users ...User) *Private {
	t.Helper()
	path := HtpasswdFile(t, users...)
	return private(t, false, &Private{htpasswd: path, users: users}, func(string) http.Handler {
		return distribution(t, configuration.Auth{"htpasswd": {"realm": "test", "path": path}})
	})
}

func private(t testing.TB, secure bool, p *Private, handler func(url string) http.Handler) *Private {
	t.Helper()
	s, server := reserve()
	start := server.Start
	if secure {
		s.URL, start = "https://"+s.Host, server.StartTLS
		server.Config.ErrorLog = log.New(io.Discard, "", 0) // half of the clients refuse the certificate
	}
	registry := handler(s.URL)
	s.start(t, server, start, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if meet := p.meet.Load(); meet != nil {
			(*meet)(r)
		}
		registry.ServeHTTP(w, r)
	}))
	p.Server, p.client = s, server.Client()
	if secure {
		p.CA = writeCertificate(t, server)
	}
	return p
}

func writeCertificate(t testing.TB, server *httptest.Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// HtpasswdFile writes the users as htpasswd -B does and returns the file's path.
func HtpasswdFile(t testing.TB, users ...User) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "htpasswd")
	writeHtpasswd(t, path, users)
	return path
}

// writeHtpasswd replaces the file at once, because the registry would also read a
// half-written file.
func writeHtpasswd(t testing.TB, path string, users []User) {
	t.Helper()
	var text strings.Builder
	for _, u := range users {
		hash, err := bcrypt.GenerateFromPassword([]byte(u.Password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "%s:%s\n", u.Name, hash)
	}
	if err := os.WriteFile(path+".new", []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// SetUsers replaces the users. Existing tokens stay valid until they expire or
// are revoked.
func (p *Private) SetUsers(t testing.TB, users ...User) {
	t.Helper()
	if p.Tokens == nil {
		writeHtpasswd(t, p.htpasswd, users)
	} else {
		p.Tokens.setUsers(users)
	}
}

// Meet has f called for each request before the registry or its token server sees
// it, in the request's goroutine. f may block.
func (p *Private) Meet(f func(*http.Request)) { p.meet.Store(&f) }

// Push pushes images as PushAs does, as the first user with Push set.
func (p *Private) Push(t testing.TB, tags ...string) map[string]digest.Digest {
	t.Helper()
	return push(t, p.Host, tags, p.options(t)...)
}

// PushOwn pushes an image of n layers to a name, "team/app:1". No other test has
// these layers, so an engine that has run other tests must pull them. It is a
// busybox for linux/amd64 with the files /layers/1 to /layers/<n-1>.
func (p *Private) PushOwn(t testing.TB, to string, n int) {
	t.Helper()
	box, err := findBusybox()
	if err != nil {
		t.Fatal(err)
	}
	owner := []byte(t.Name() + " " + to + "\n")
	bottom, err := gzipLayer(append(box.rootfs("amd64", "bin"), file("etc/owner", 0o644, owner)))
	if err != nil {
		t.Fatal(err)
	}
	layers := []layer{bottom}
	for i := range n - 1 {
		content := fmt.Appendf(nil, "%d of %s", i+1, owner)
		l, err := gzipLayer([]entry{dir("layers", 0o755), file(fmt.Sprintf("layers/%d", i+1), 0o644, content)})
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, l)
	}
	pusher, err := remote.NewPusher(append(p.options(t), remote.WithContext(t.Context()))...)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.NewTag(p.Host+"/"+to, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	shell := v1.Config{Cmd: []string{"sh"}, Env: []string{"PATH=/bin"}}
	if err := oci.image("amd64", shell, layers...).push(t.Context(), pusher, ref); err != nil {
		t.Fatal(err)
	}
}

// options returns the options of the first user with Push set.
func (p *Private) options(t testing.TB) []remote.Option {
	t.Helper()
	i := slices.IndexFunc(p.users, func(u User) bool { return u.Push })
	if i < 0 {
		t.Fatal("no user of the registry may push")
	}
	return append(p.users[i].options(), remote.WithTransport(p.client.Transport))
}

func (u User) options() []remote.Option {
	return []remote.Option{remote.WithAuth(&authn.Basic{Username: u.Name, Password: u.Password})}
}
