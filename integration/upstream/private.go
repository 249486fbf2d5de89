package upstream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd" // the access controllers
	_ "github.com/distribution/distribution/v3/registry/auth/token"    // the configuration names
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/crypto/bcrypt"
)

// User is who may log in to a private registry.
type User struct {
	Name, Password string
	// IdentityToken is taken in place of name and password, if not empty.
	IdentityToken string
	// Repositories may be pulled; with Push, pushed to, too. "*" is all.
	Repositories []string
	Push         bool
}

func (u User) may(repository, action string) bool {
	return (action == "pull" || action == "push" && u.Push) &&
		(slices.Contains(u.Repositories, "*") || slices.Contains(u.Repositories, repository))
}

// Private is a registry that wants a login.
type Private struct {
	*Server
	Tokens *TokenServer // nil for HTTP Basic
}

// HtpasswdRegistry starts a registry with distribution's HTTP Basic access
// controller. Whoever logs in may do everything.
func HtpasswdRegistry(t testing.TB, users ...User) *Private {
	t.Helper()
	path := HtpasswdFile(t, users...)
	return &Private{Server: serve(t, distribution(t, configuration.Auth{"htpasswd": {"realm": "test", "path": path}}))}
}

// HtpasswdFile writes users as htpasswd -B does, and returns the file's path.
func HtpasswdFile(t testing.TB, users ...User) string {
	t.Helper()
	var file strings.Builder
	for _, u := range users {
		hash, err := bcrypt.GenerateFromPassword([]byte(u.Password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&file, "%s:%s\n", u.Name, hash)
	}
	path := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(path, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TokenRegistry starts a registry with distribution's token access controller,
// and the token server that it sends clients to.
func TokenRegistry(t testing.TB, users ...User) *Private {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signing := jose.JSONWebKey{Key: key, KeyID: "test", Algorithm: string(jose.ES256), Use: "sig"}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{signing.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(path, set, 0o600); err != nil {
		t.Fatal(err)
	}
	tokens := &TokenServer{users: users, key: signing, lifetime: 5 * time.Minute}
	// The token server is at the registry's own host, for clients that do not
	// follow a challenge to another one at a private address.
	var registry http.Handler
	server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			tokens.ServeHTTP(w, r)
			return
		}
		registry.ServeHTTP(w, r)
	}))
	registry = tokens.revoking(distribution(t, configuration.Auth{"token": {
		"realm": server.URL + "/token", "service": service, "issuer": issuer, "jwks": path,
	}}))
	return &Private{Server: server, Tokens: tokens}
}

const service, issuer = "registry.test", "tokens.test"

// TokenServer gives out tokens as the distribution token specification has it:
// GET with HTTP Basic, and POST with an identity token. It gives a token for what
// the user may do, which may be nothing.
type TokenServer struct {
	users []User
	key   jose.JSONWebKey

	mu       sync.Mutex
	lifetime time.Duration
	requests []string
	revoked  time.Time // tokens from before are refused
}

// SetLifetime is how long tokens given out from now on are good.
func (s *TokenServer) SetLifetime(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lifetime = d
}

// Revoke has the registry refuse the tokens given out so far, though they say
// that they are good for longer.
func (s *TokenServer) Revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked = time.Now()
}

// Requests returns who asked for a token for what: "user repository:a/b:pull".
func (s *TokenServer) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Reset forgets the requests so far.
func (s *TokenServer) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
}

func (s *TokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.FormValue("service") != service {
		http.Error(w, "another service", http.StatusBadRequest)
		return
	}
	user, known := s.login(r)
	s.mu.Lock()
	s.requests = append(s.requests, user.Name+" "+r.FormValue("scope"))
	lifetime := s.lifetime
	s.mu.Unlock()
	if !known {
		http.Error(w, `{"errors": [{"code": "UNAUTHORIZED"}]}`, http.StatusUnauthorized)
		return
	}
	token, err := s.token(user, r.FormValue("scope"), lifetime)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"token": token, "access_token": token, "expires_in": int(lifetime / time.Second), "issued_at": time.Now().UTC().Format(time.RFC3339),
	})
}

// login returns who asks; nobody is good for what nobody may do.
func (s *TokenServer) login(r *http.Request) (User, bool) {
	name, password, basic := r.BasicAuth()
	identity := r.FormValue("refresh_token")
	for _, u := range s.users {
		if basic && u.Name == name && u.Password == password || identity != "" && u.IdentityToken == identity {
			return u, true
		}
	}
	return User{}, !basic && identity == ""
}

func (s *TokenServer) token(u User, scope string, lifetime time.Duration) (string, error) {
	type access struct {
		Type    string   `json:"type"`
		Name    string   `json:"name"`
		Actions []string `json:"actions"`
	}
	granted := []access{}
	for s := range strings.FieldsSeq(scope) {
		parts := strings.Split(s, ":")
		if len(parts) != 3 {
			continue
		}
		a := access{parts[0], parts[1], nil}
		for action := range strings.SplitSeq(parts[2], ",") {
			if u.may(a.Name, action) {
				a.Actions = append(a.Actions, action)
			}
		}
		granted = append(granted, a)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: s.key}, nil)
	if err != nil {
		return "", err
	}
	now := time.Now()
	return jwt.Signed(signer).Claims(map[string]any{
		"iss": issuer, "sub": u.Name, "aud": service, "access": granted, "jti": fmt.Sprint(now.UnixNano()),
		"iat": now.Unix(), "nbf": now.Add(-time.Second).Unix(), "exp": now.Add(lifetime).Unix(), "made": now.UnixNano(),
	}).Serialize()
}

// revoking refuses what was revoked before the registry sees it, by taking it
// away.
func (s *TokenServer) revoking(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		var claims struct {
			Made int64 `json:"made"`
		}
		if token, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.ES256}); err == nil {
			_ = token.UnsafeClaimsWithoutVerification(&claims)
			s.mu.Lock()
			if !time.Unix(0, claims.Made).After(s.revoked) {
				r.Header.Del("Authorization")
			}
			s.mu.Unlock()
		}
		next.ServeHTTP(w, r)
	})
}
