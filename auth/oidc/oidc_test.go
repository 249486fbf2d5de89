package oidc

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/waveproxy/waveproxy/auth"
)

// issuer is an OpenID Connect issuer on loopback.
type issuer struct {
	*httptest.Server
	keys  []jose.JSONWebKey
	down  atomic.Bool
	asked atomic.Int64
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{}
	i.rotate(t, "k1")
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.asked.Add(1)
		if i.down.Load() {
			http.Error(w, "a secret of the issuer", http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/.well-known/openid-configuration" {
			_ = json.NewEncoder(w).Encode(map[string]any{
				"issuer": i.URL, "jwks_uri": i.URL + "/keys", "authorization_endpoint": i.URL, "token_endpoint": i.URL,
				"id_token_signing_alg_values_supported": []string{"RS256", "HS256"},
			})
			return
		}
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{i.keys[0].Public()}})
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) rotate(t *testing.T, id string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i.keys = []jose.JSONWebKey{{Key: key, KeyID: id, Algorithm: "RS256", Use: "sig"}}
}

func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// claims are good ones, but for the changes.
func (i *issuer) claims(changes map[string]any) map[string]any {
	c := map[string]any{
		"iss": i.URL, "aud": "waveproxy", "sub": "team-a", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	for k, v := range changes {
		if c[k] = v; v == nil {
			delete(c, k)
		}
	}
	return c
}

func TestIdentity(t *testing.T) {
	i := newIssuer(t)
	other := newIssuer(t)
	v := New(Options{Issuer: i.URL, Audience: "waveproxy"})
	for name, test := range map[string]struct{ token, want string }{
		"good":           {sign(t, jose.RS256, i.keys[0], i.claims(nil)), "team-a"},
		"for many":       {sign(t, jose.RS256, i.keys[0], i.claims(map[string]any{"aud": []string{"x", "waveproxy"}})), "team-a"},
		"for another":    {sign(t, jose.RS256, i.keys[0], i.claims(map[string]any{"aud": "another"})), ""},
		"for nobody":     {sign(t, jose.RS256, i.keys[0], i.claims(map[string]any{"aud": nil})), ""},
		"expired":        {sign(t, jose.RS256, i.keys[0], i.claims(map[string]any{"exp": time.Now().Add(-time.Hour).Unix()})), ""},
		"endless":        {sign(t, jose.RS256, i.keys[0], i.claims(map[string]any{"exp": nil})), ""},
		"not yet":        {sign(t, jose.RS256, i.keys[0], i.claims(map[string]any{"nbf": time.Now().Add(time.Hour).Unix()})), ""},
		"of another":     {sign(t, jose.RS256, other.keys[0], i.claims(nil)), ""},
		"another issuer": {sign(t, jose.RS256, i.keys[0], i.claims(map[string]any{"iss": other.URL})), ""},
		"hmac":           {sign(t, jose.HS256, []byte("a key that the issuer never had, long"), i.claims(nil)), ""},
		"nameless":       {sign(t, jose.RS256, i.keys[0], i.claims(map[string]any{"sub": ""})), ""},
		"a number":       {sign(t, jose.RS256, i.keys[0], i.claims(map[string]any{"sub": 7})), ""},
		"everybody":      {sign(t, jose.RS256, i.keys[0], i.claims(map[string]any{"sub": "*"})), ""},
		"a server's":     {sign(t, jose.RS256, i.keys[0], i.claims(map[string]any{"sub": "recipe:fusion"})), ""},
		"two lines":      {sign(t, jose.RS256, i.keys[0], i.claims(map[string]any{"sub": "a\nb"})), ""},
		"long":           {sign(t, jose.RS256, i.keys[0], i.claims(map[string]any{"sub": strings.Repeat("x", maxName+1)})), ""},
		"not signed":     {"eyJhbGciOiJub25lIn0.e30.", ""},
		"not a token":    {"0123456789abcdef", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := v.Identity(t.Context(), test.token)
			if test.want != "" {
				if err != nil || got != test.want {
					t.Errorf("%q, %v", got, err)
				}
				return
			}
			if !errors.Is(err, auth.ErrWrongLogin) || got != "" {
				t.Errorf("%q, %v, want a wrong login", got, err)
			}
			if err != nil && strings.Contains(err.Error(), test.token) {
				t.Errorf("the error has the token: %v", err)
			}
		})
	}
}

func TestClaim(t *testing.T) {
	i := newIssuer(t)
	v := New(Options{Issuer: i.URL, Audience: "waveproxy", Claim: "email"})
	if got, err := v.Identity(t.Context(), sign(t, jose.RS256, i.keys[0], i.claims(map[string]any{"email": "a@example.org"}))); got != "a@example.org" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := v.Identity(t.Context(), sign(t, jose.RS256, i.keys[0], i.claims(nil))); !errors.Is(err, auth.ErrWrongLogin) {
		t.Errorf("without the claim: %v", err)
	}
}

func TestKeyRotation(t *testing.T) {
	i := newIssuer(t)
	v := New(Options{Issuer: i.URL, Audience: "waveproxy"})
	old := i.keys[0]
	if _, err := v.Identity(t.Context(), sign(t, jose.RS256, old, i.claims(nil))); err != nil {
		t.Fatal(err)
	}
	asked := i.asked.Load()
	if _, err := v.Identity(t.Context(), sign(t, jose.RS256, old, i.claims(nil))); err != nil || i.asked.Load() != asked {
		t.Errorf("a known key is asked for again: %v", err)
	}
	i.rotate(t, "k2")
	if _, err := v.Identity(t.Context(), sign(t, jose.RS256, i.keys[0], i.claims(nil))); err != nil {
		t.Errorf("a new key: %v", err)
	}
}

func TestIssuerDown(t *testing.T) {
	i := newIssuer(t)
	i.down.Store(true)
	v := New(Options{Issuer: i.URL, Audience: "waveproxy"})
	token := sign(t, jose.RS256, i.keys[0], i.claims(nil))
	for range 3 {
		_, err := v.Identity(t.Context(), token)
		if err == nil || errors.Is(err, auth.ErrWrongLogin) {
			t.Fatalf("an issuer that is down makes a wrong login: %v", err)
		}
		if strings.Contains(err.Error(), "a secret") {
			t.Errorf("the error quotes the answer: %v", err)
		}
	}
	if n := i.asked.Load(); n != 1 {
		t.Errorf("asked %d times within seconds, want once", n)
	}
	i.down.Store(false)
	v.failedAt = time.Now().Add(-retryAfter)
	if got, err := v.Identity(t.Context(), token); err != nil || got != "team-a" {
		t.Errorf("when it is up again: %q, %v", got, err)
	}
	i.down.Store(true)
	i.rotate(t, "k2")
	if _, err := v.Identity(t.Context(), sign(t, jose.RS256, i.keys[0], i.claims(nil))); err == nil || errors.Is(err, auth.ErrWrongLogin) {
		t.Errorf("a key that cannot be looked up makes a wrong login: %v", err)
	}
}

func TestContext(t *testing.T) {
	i := newIssuer(t)
	v := New(Options{Issuer: i.URL, Audience: "waveproxy"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Identity(ctx, sign(t, jose.RS256, i.keys[0], i.claims(nil))); err == nil {
		t.Error("a request that has ended gets an identity")
	}
}
