package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/goleak"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/internal/flight"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// unavailable checks that the token is neither accepted nor refused.
func unavailable(t *testing.T, v *Verifier, token, says string) {
	t.Helper()
	got, err := v.Identity(t.Context(), token)
	if err == nil || errors.Is(err, auth.ErrWrongLogin) || got != "" {
		t.Fatalf("%q, %v, want an issuer that could not be asked", got, err)
	}
	if !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "a secret") {
		t.Errorf("%q does not say %q, or quotes the answer", err, says)
	}
}

func TestKeyRotation(t *testing.T) {
	i := newIssuer(t)
	v := New(Options{Issuer: i.URL, Audience: "waveproxy"})
	old := sign(t, jose.RS256, i.keys[0], i.claims(nil))
	accepted(t, v, old, "team-a")
	accepted(t, v, old, "team-a")
	if n := i.asked.Load(); n != 2 {
		t.Errorf("%d requests for two tokens with one key, want 2", n)
	}
	i.rotate(t, "k2")
	later(v, retryAfter)
	accepted(t, v, sign(t, jose.RS256, i.keys[0], i.claims(nil)), "team-a")
	refused(t, v, old, "not signed")
}

// TestForgedTokens: forged tokens are refused and cause no requests of their own.
func TestForgedTokens(t *testing.T) {
	i, other := newIssuer(t), newIssuer(t)
	v := New(Options{Issuer: i.URL, Audience: "waveproxy"})
	forged := sign(t, jose.RS256, other.keys[0], i.claims(nil))
	for _, token := range []string{"a.b.c", "static-token-of-16", flip("e30.e30.e30")} {
		refused(t, v, token, "")
	}
	if n := i.asked.Load(); n != 0 {
		t.Errorf("%d requests for texts that are no token", n)
	}
	accepted(t, v, sign(t, jose.RS256, i.keys[0], i.claims(nil)), "team-a")
	for _, want := range []int64{2, 4} {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { refused(t, v, forged, "not signed") })
		}
		wg.Wait()
		if n := i.asked.Load(); n != want {
			t.Errorf("%d requests, want %d", n, want)
		}
		later(v, retryAfter)
	}
}

// join waits for the load that is under way.
func join(t *testing.T, v *Verifier) {
	t.Helper()
	if _, err := flight.Do(t.Context(), &v.loads, "", loadTimeout, v.reload); err != nil {
		t.Fatal(err)
	}
}

// TestWithdrawnKey: a key that the issuer no longer has is good for an hour, and
// longer while the issuer is down.
func TestWithdrawnKey(t *testing.T) {
	i := newIssuer(t)
	v := New(Options{Issuer: i.URL, Audience: "waveproxy"})
	old := sign(t, jose.RS256, i.keys[0], i.claims(nil))
	accepted(t, v, old, "team-a")
	i.rotate(t, "k2")
	i.down.Store(true)
	for range 2 {
		later(v, maxAge)
		accepted(t, v, old, "team-a") // and starts a load in the background
		join(t, v)
	}
	i.down.Store(false)
	later(v, maxAge)
	accepted(t, v, old, "team-a")
	join(t, v)
	refused(t, v, old, "not signed")
}

func TestIssuerDown(t *testing.T) {
	i := newIssuer(t)
	i.down.Store(true)
	v := New(Options{Issuer: i.URL, Audience: "waveproxy"})
	token := sign(t, jose.RS256, i.keys[0], i.claims(nil))
	for range 3 {
		unavailable(t, v, token, "ask the issuer "+i.URL+" for its keys: get "+i.URL+"/.well-known/openid-configuration: status 502")
	}
	if n := i.asked.Load(); n != 1 {
		t.Errorf("asked %d times within seconds, want once", n)
	}
	i.down.Store(false)
	later(v, retryAfter)
	accepted(t, v, token, "team-a")
	i.down.Store(true)
	i.rotate(t, "k2")
	later(v, retryAfter)
	unavailable(t, v, sign(t, jose.RS256, i.keys[0], i.claims(nil)), "status 502")
	accepted(t, v, token, "team-a")
}

func TestBadIssuers(t *testing.T) {
	document := func(text string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			_, _ = w.Write([]byte(text))
			return true
		}
	}
	keys := func(text string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			return r.URL.Path == "/keys" && document(text)(w, r)
		}
	}
	for name, test := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request) bool
		says   string
	}{
		"another":      {document(`{"issuer":"https://evil.example"}`), `it calls itself "https://evil.example"`},
		"a page":       {document("<html>a secret</html>"), "not the expected JSON"},
		"a large page": {document(`{"issuer":"` + strings.Repeat("x", maxAnswer) + `"}`), "more than 1048576 bytes"},
		"keys, a page": {keys("<html>a secret</html>"), "/keys: the answer is not the expected JSON"},
		"many keys":    {keys(`{"keys":["` + strings.Repeat("x", maxAnswer) + `"]}`), "more than 1048576 bytes"},
		"no keys":      {keys(`{"keys":[]}`), "no key to verify"},
		"secret keys":  {keys(`{"keys":[{"kty":"oct","k":"AAAA"},{"kty":"XYZ"},7]}`), "no key to verify"},
		"a redirection": {func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
			return true
		}, "status 302"},
		"it hangs up": {func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("{"))
			return true
		}, "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			i.answer = test.answer
			unavailable(t, New(Options{Issuer: i.URL, Audience: "waveproxy"}), sign(t, jose.RS256, i.keys[0], i.claims(nil)), test.says)
		})
	}
	unavailable(t, New(Options{Issuer: "ftp://x", Audience: "waveproxy"}), sign(t, jose.RS256, newIssuer(t).keys[0], nil), "ftp://x")
}

// TestKeysOfHTTPS: keys are not taken from an address without TLS, where any
// machine on the path could replace them.
func TestKeysOfHTTPS(t *testing.T) {
	plain := newIssuer(t)
	var url string
	issuer := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": url, "jwks_uri": plain.URL + "/keys"})
	}))
	defer issuer.Close()
	url = issuer.URL
	v := New(Options{Issuer: url, Audience: "waveproxy", Client: issuer.Client()})
	unavailable(t, v, sign(t, jose.RS256, plain.keys[0], plain.claims(map[string]any{"iss": url})), "want an https URL")
	if plain.asked.Load() != 0 {
		t.Error("the keys were asked for without TLS")
	}
}

// TestOtherKeys: unknown keys and keys for encryption do not make the other keys
// unusable.
func TestOtherKeys(t *testing.T) {
	i := newIssuer(t)
	i.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/keys" {
			return false
		}
		key, err := i.keys[0].Public().MarshalJSON()
		if err != nil {
			t.Error(err)
		}
		enc := strings.Replace(string(key), `"sig"`, `"enc"`, 1)
		_, _ = w.Write([]byte(`{"keys":[{"kty":"AKP","alg":"ML-DSA-44"},` + enc + `,` + string(key) + `]}`))
		return true
	}
	v := New(Options{Issuer: i.URL, Audience: "waveproxy"})
	accepted(t, v, sign(t, jose.RS256, i.keys[0], i.claims(nil)), "team-a")
	if n := len(v.current().keys.PublicKeys); n != 1 {
		t.Errorf("%d keys, want 1", n)
	}
}

// slow is a transport whose answers wait until the gate is closed.
type slow struct {
	next http.RoundTripper
	gate chan struct{}
}

func (s slow) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case <-s.gate:
		return s.next.RoundTrip(r)
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// TestOneLoad: concurrent first callers share the requests, which continue when one
// of them leaves.
func TestOneLoad(t *testing.T) {
	i := newIssuer(t)
	s := slow{http.DefaultTransport, make(chan struct{})}
	v := New(Options{Issuer: i.URL, Audience: "waveproxy", Client: &http.Client{Transport: s}})
	token := sign(t, jose.RS256, i.keys[0], i.claims(nil))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Identity(ctx, token); !errors.Is(err, context.Canceled) {
		t.Errorf("the caller that left got %v", err)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { accepted(t, v, token, "team-a") })
	}
	close(s.gate)
	wg.Wait()
	if n := i.asked.Load(); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

func TestTimeout(t *testing.T) {
	i := newIssuer(t)
	token := sign(t, jose.RS256, i.keys[0], i.claims(nil))
	synctest.Test(t, func(t *testing.T) {
		s := slow{nil, make(chan struct{})} // never
		v := New(Options{Issuer: i.URL, Audience: "waveproxy", Client: &http.Client{Transport: s}})
		start := time.Now()
		unavailable(t, v, token, "deadline exceeded")
		if took := time.Since(start); took != loadTimeout {
			t.Errorf("took %s, want %s", took, loadTimeout)
		}
		start = time.Now()
		unavailable(t, v, token, "deadline exceeded") // remembered
		if took := time.Since(start); took != 0 {
			t.Errorf("took %s a moment later", took)
		}
		time.Sleep(retryAfter)
		unavailable(t, v, token, "deadline exceeded")
		if took := time.Since(start); took != retryAfter+loadTimeout {
			t.Errorf("took %s, so the issuer was not asked again", took)
		}
	})
}
