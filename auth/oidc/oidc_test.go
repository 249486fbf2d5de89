package oidc

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
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
	keys   []jose.JSONWebKey
	down   atomic.Bool
	asked  atomic.Int64
	answer func(w http.ResponseWriter, r *http.Request) bool // answers instead of the issuer if it returns true
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
		if i.answer != nil && i.answer(w, r) {
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
	i.keys = []jose.JSONWebKey{{Key: unusedKey(t), KeyID: id, Algorithm: "RS256", Use: "sig"}}
}

var unusedKeys struct {
	sync.Mutex
	keys []*rsa.PrivateKey
}

// unusedKey returns a key that no other issuer of the test has. Keys of tests that
// have ended are used again, because making one takes a tenth of a second.
func unusedKey(t *testing.T) (key *rsa.PrivateKey) {
	t.Helper()
	u := &unusedKeys
	u.Lock()
	defer u.Unlock()
	if n := len(u.keys); n > 0 {
		key, u.keys = u.keys[n-1], u.keys[:n-1]
	} else {
		var err error
		if key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		u.Lock()
		defer u.Unlock()
		u.keys = append(u.keys, key)
	})
	return key
}

// later makes the last load look older by d.
func later(v *Verifier, d time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.state.asked, v.state.loaded = v.state.asked.Add(-d), v.state.loaded.Add(-d)
}

// refused checks that the token is a wrong login and that the error shows no part
// of it.
func refused(t *testing.T, v *Verifier, token, says string) {
	t.Helper()
	got, err := v.Identity(t.Context(), token)
	if !errors.Is(err, auth.ErrWrongLogin) || got != "" {
		t.Errorf("%q, %v, want a wrong login", got, err)
		return
	}
	if !strings.Contains(err.Error(), says) {
		t.Errorf("%q does not say %q", err, says)
	}
	for part := range strings.SplitSeq(token, ".") {
		if len(part) > 3 && strings.Contains(err.Error(), part) {
			t.Errorf("the error has the token: %v", err)
		}
	}
}

func accepted(t *testing.T, v *Verifier, token, want string) {
	t.Helper()
	if got, err := v.Identity(t.Context(), token); err != nil || got != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
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

// claims returns valid claims with the changes applied; nil deletes a claim.
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
	good := func(changes map[string]any) string { return sign(t, jose.RS256, i.keys[0], i.claims(changes)) }
	ago := func(d time.Duration) int64 { return time.Now().Add(-d).Unix() }
	for name, test := range map[string]struct{ token, want string }{
		"good":               {good(nil), "team-a"},
		"for many":           {good(map[string]any{"aud": []string{"x", "waveproxy"}}), "team-a"},
		"a moment ago":       {good(map[string]any{"exp": ago(leeway / 2)}), "team-a"},
		"in a moment":        {good(map[string]any{"nbf": ago(-leeway)}), "team-a"},
		"as long as can be":  {good(map[string]any{"sub": strings.Repeat("é", maxName)}), strings.Repeat("é", maxName)},
		"a service account":  {good(map[string]any{"sub": "system:serviceaccount:ns:app"}), "system:serviceaccount:ns:app"},
		"another key's name": {sign(t, jose.RS256, jose.JSONWebKey{Key: i.keys[0].Key, KeyID: "unheard of"}, i.claims(nil)), "team-a"},
	} {
		t.Run(name, func(t *testing.T) { accepted(t, v, test.token, test.want) })
	}
	public, err := i.keys[0].Public().MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	payload := func(claims string) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: i.keys[0]}, nil)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := signer.Sign([]byte(claims))
		if err != nil {
			t.Fatal(err)
		}
		token, err := signed.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	for name, test := range map[string]struct{ token, says string }{
		"for another":    {good(map[string]any{"aud": "another"}), `expected audience "waveproxy" got ["another"]`},
		"no audience":    {good(map[string]any{"aud": nil}), "audience"},
		"expired":        {good(map[string]any{"exp": ago(2 * leeway)}), "expired at"},
		"endless":        {good(map[string]any{"exp": nil}), "expired at"},
		"not yet":        {good(map[string]any{"nbf": ago(-time.Hour)}), "not before"},
		"of another":     {sign(t, jose.RS256, other.keys[0], i.claims(nil)), "not signed with a key of " + i.URL},
		"another issuer": {good(map[string]any{"iss": other.URL}), "different provider"},
		"hmac":           {sign(t, jose.HS256, []byte("a key that the issuer never had, long"), i.claims(nil)), "public-key"},
		"hmac, public":   {sign(t, jose.HS256, public, i.claims(nil)), "public-key"},
		"nameless":       {good(map[string]any{"sub": ""}), `claim "sub" is not a name`},
		"no claim":       {good(map[string]any{"sub": nil}), `claim "sub" is not a name`},
		"a number":       {good(map[string]any{"sub": 7}), "unmarshal"},
		"a list":         {good(map[string]any{"sub": []string{"a"}}), "unmarshal"},
		"all others":     {good(map[string]any{"sub": "*"}), "not a name"},
		"a server's":     {good(map[string]any{"sub": "recipe:fusion"}), "not a name"},
		"two lines":      {good(map[string]any{"sub": "a\nb"}), "not a name"},
		"long":           {good(map[string]any{"sub": strings.Repeat("é", maxName+1)}), "not a name"},
		"not UTF-8":      {payload(`{"iss":"` + i.URL + `","aud":"waveproxy","exp":9999999999,"sub":"a` + "\xff" + `"}`), "not a name"},
		"no claims":      {payload("x"), "claims"},
		"not signed":     {"eyJhbGciOiJub25lIn0.e30.", "public-key"},
		"a bit flipped":  {flip(good(nil)), "not signed with a key"},
		"not a token":    {"0123456789abcdef", "JSON web token"},
		"as JSON":        {`{"payload":"e30","signatures":[{"protected":"eyJhbGciOiJSUzI1NiJ9","signature":"AA.AA.AA"}]}`, "JSON web token"},
		"a library's":    {base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"fetching keys"}`)) + ".e30.AAAA", "public-key"},
		"endlessly long": {strings.Repeat("x", maxToken+1), "more than"},
		"empty":          {"", "JSON web token"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, v, test.token, test.says) })
	}
}

// flip changes the signature.
func flip(token string) string {
	dot := strings.LastIndexByte(token, '.')
	last := "A"
	if token[dot+1:dot+2] == last {
		last = "B"
	}
	return token[:dot+1] + last + token[dot+2:]
}

func TestClaim(t *testing.T) {
	i := newIssuer(t)
	v := New(Options{Issuer: i.URL, Audience: "waveproxy", Claim: "email"})
	good := func(changes map[string]any) string { return sign(t, jose.RS256, i.keys[0], i.claims(changes)) }
	refused(t, v, good(map[string]any{"email": "a@example.org"}), "not verified")
	accepted(t, v, good(map[string]any{"email": "a@example.org", "email_verified": true}), "a@example.org")
	accepted(t, v, good(map[string]any{"email": "a@example.org", "email_verified": "true"}), "a@example.org")
	refused(t, v, good(map[string]any{"email": "a@example.org", "email_verified": false}), "not verified")
	refused(t, v, good(map[string]any{"email": "a@example.org", "email_verified": "false"}), "not verified")
	refused(t, v, good(map[string]any{"EMAIL": "a@example.org"}), `"email"`)
	refused(t, v, good(nil), `"email"`)
}

func TestNoAudience(t *testing.T) {
	i := newIssuer(t)
	for _, aud := range []any{"waveproxy", "", nil} {
		refused(t, New(Options{Issuer: i.URL}), sign(t, jose.RS256, i.keys[0], i.claims(map[string]any{"aud": aud})), "")
	}
}
