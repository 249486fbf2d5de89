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

	"github.com/distribution/distribution/v3/registry/auth/token"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	tokenPath    = "/token"
	tokenService = "registry.test"
	tokenIssuer  = "tokens.test"

	// canary is in each token, for tests that look for secrets.
	canary = "wpcanary-token-"
)

// TokenServer gives out tokens by the distribution project's token and OAuth2
// specifications: for GET with or without HTTP Basic, and for POST with an
// identity token. A user gets a token for the permitted part of the scope, which
// may be empty. The token of an anonymous client permits nothing. Its methods may
// be called concurrently.
type TokenServer struct {
	signer jose.Signer

	mu       sync.Mutex
	users    []User
	lifetime time.Duration
	requests []string
	given    map[string]*givenToken // by the token
	dead     string                 // an expired token, which the registry sees in place of a revoked one
}

type givenToken struct {
	revoked bool
	refused bool
}

// newTokenServer returns a server and the file with the keys that verify its
// tokens.
func newTokenServer(t testing.TB, users []User) (*TokenServer, string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := jose.JSONWebKey{Key: private, KeyID: "test", Algorithm: string(jose.ES256), Use: "sig"}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(path, set, 0o600); err != nil {
		t.Fatal(err)
	}
	s := &TokenServer{users: users, lifetime: 5 * time.Minute, given: map[string]*givenToken{}}
	if s.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil); err != nil {
		t.Fatal(err)
	}
	if s.dead, err = s.sign("", nil, -time.Hour); err != nil {
		t.Fatal(err)
	}
	return s, path
}

func (s *TokenServer) setUsers(users []User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users = users
}

// SetLifetime sets the lifetime of later tokens. expires_in says d; the registry
// accepts them up to a second longer. The default is five minutes.
func (s *TokenServer) SetLifetime(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lifetime = d
}

// Revoke has the registry refuse the tokens given out so far, as if they had
// expired.
func (s *TokenServer) Revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.given {
		g.revoked = true
	}
}

// Requests returns the user and scope of each token request since the start or
// the last Reset: "user repository:team/app:pull". A refused login has "!" as its
// user, an anonymous client "-".
func (s *TokenServer) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Refused returns the number of tokens that the registry has refused since the
// start. A token that is refused several times counts once.
func (s *TokenServer) Refused() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, g := range s.given {
		if g.refused {
			n++
		}
	}
	return n
}

// Reset forgets the requests so far.
func (s *TokenServer) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
}

func (s *TokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if reason := malformed(r); reason != "" {
		http.Error(w, reason, http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	user, ok := s.login(r)
	name := user.Name
	switch {
	case !ok:
		name = "!"
	case name == "":
		name = "-"
	}
	s.requests = append(s.requests, name+" "+r.FormValue("scope"))
	w.Header().Set("Content-Type", "application/json")
	if !ok {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"errors": [{"code": "UNAUTHORIZED", "message": "wrong user or password"}]}`)
		return
	}
	raw, err := s.sign(user.Name, user.grants(r.FormValue("scope")), s.lifetime)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.given[raw] = &givenToken{}
	answer := map[string]any{
		"access_token": raw, "expires_in": int(s.lifetime / time.Second), "issued_at": time.Now().UTC().Format(time.RFC3339),
	}
	if r.Method == http.MethodGet {
		answer["token"] = raw // the OAuth2 form has only access_token
	}
	_ = json.NewEncoder(w).Encode(answer) // fails only if the client is gone
}

// malformed returns what in a request violates the specifications, or "".
func malformed(r *http.Request) string {
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		return "want GET or POST"
	case r.FormValue("service") != tokenService:
		return "another service"
	case r.Method == http.MethodPost && (r.FormValue("grant_type") != "refresh_token" || r.FormValue("client_id") == ""):
		return "want grant_type refresh_token and a client_id"
	}
	return ""
}

// login returns the user of a request, without a name if it is anonymous, and
// whether the login is right.
func (s *TokenServer) login(r *http.Request) (User, bool) {
	name, password, basic := r.BasicAuth()
	for _, u := range s.users {
		switch {
		case r.Method == http.MethodPost:
			if u.IdentityToken != "" && u.IdentityToken == r.PostFormValue("refresh_token") {
				return u, true
			}
		case basic && u.Name == name && u.Password == password:
			return u, true
		}
	}
	return User{}, r.Method == http.MethodGet && !basic
}

// grants returns the part of a scope that the user may have.
func (u User) grants(scope string) []*token.ResourceActions {
	granted := []*token.ResourceActions{}
	for one := range strings.FieldsSeq(scope) {
		kind, rest, _ := strings.Cut(one, ":")
		i := strings.LastIndexByte(rest, ':')
		if i < 0 {
			continue
		}
		repository, actions := rest[:i], strings.Split(rest[i+1:], ",")
		actions = slices.DeleteFunc(actions, func(a string) bool { return !u.may(a, repository) })
		if len(actions) > 0 {
			granted = append(granted, &token.ResourceActions{Type: kind, Name: repository, Actions: actions})
		}
	}
	return granted
}

func (s *TokenServer) sign(subject string, access []*token.ResourceActions, lifetime time.Duration) (string, error) {
	now := time.Now()
	return jwt.Signed(s.signer).Claims(token.ClaimSet{
		Issuer: tokenIssuer, Subject: subject, Audience: token.AudienceList{tokenService}, JWTID: canary + rand.Text(), Access: access,
		IssuedAt: now.Unix(), NotBefore: now.Unix(),
		// The registry adds its leeway to the token's expiry.
		Expiration: now.Add(lifetime - token.Leeway + time.Second).Unix(),
	}).Serialize()
}

// watch replaces revoked tokens by an expired one before the registry sees them,
// and records the tokens that the registry refuses.
func (s *TokenServer) watch(registry http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		s.mu.Lock()
		g := s.given[raw]
		if g != nil && g.revoked {
			r.Header.Set("Authorization", "Bearer "+s.dead)
		}
		s.mu.Unlock()
		if g != nil {
			w = refusals{w, func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				g.refused = true
			}}
		}
		registry.ServeHTTP(w, r)
	})
}

// refusals is a ResponseWriter that notes whether the answer refuses the login.
type refusals struct {
	http.ResponseWriter
	refused func()
}

func (r refusals) WriteHeader(status int) {
	if status == http.StatusUnauthorized {
		r.refused()
	}
	r.ResponseWriter.WriteHeader(status)
}
