package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/waveproxy/waveproxy/internal/flight"
	"github.com/waveproxy/waveproxy/internal/jsonlimit"
)

const (
	// loadTimeout bounds one load of the keys, with all its requests.
	loadTimeout = 10 * time.Second
	// retryAfter is the pause between two loads. Meanwhile the error of the last
	// one is repeated.
	retryAfter = 5 * time.Second
	// maxAge is how long a key may be accepted after the issuer has withdrawn it.
	maxAge    = time.Hour
	maxAnswer = 1 << 20 // bytes of one answer of the issuer
	// maxElements bounds the elements of one. A set of a hundred keys has a thousand.
	maxElements = 1 << 14
)

// state is the issuer's keys and the outcome of the last load. The library's own
// key set is not used, because it asks the issuer for each forged token and reads
// answers of any length.
type state struct {
	keys   *oidc.StaticKeySet // nil until a load succeeded
	loaded time.Time          // when the keys were loaded
	asked  time.Time          // when the last load ended
	err    error              // of the last load
}

func (s state) recent() bool { return time.Since(s.asked) < retryAfter }

func (v *Verifier) current() state {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.state
}

// keys returns the known keys. The first caller waits for them. Keys that are older
// than maxAge are returned and loaded again in the background; if that fails, the
// previous keys stay.
func (v *Verifier) keys(ctx context.Context) (*oidc.StaticKeySet, error) {
	s := v.current()
	if s.keys == nil {
		return v.load(ctx)
	}
	if time.Since(s.loaded) >= maxAge && !s.recent() {
		flight.Start(ctx, &v.loads, "", loadTimeout, v.reload)
	}
	return s.keys, nil
}

// load returns the keys of a new load, or the outcome of the last one if that ended
// less than retryAfter ago. Callers share one load, which continues when they leave.
func (v *Verifier) load(ctx context.Context) (*oidc.StaticKeySet, error) {
	s := v.current()
	if !s.recent() {
		var err error
		if s, err = flight.Do(ctx, &v.loads, "", loadTimeout, v.reload); err != nil {
			return nil, fmt.Errorf("wait for the keys of the issuer %s: %w", v.options.Issuer, err)
		}
	}
	if s.err != nil {
		return nil, fmt.Errorf("ask the issuer %s for its keys: %w", v.options.Issuer, s.err)
	}
	return s.keys, nil
}

// reload asks the issuer and returns the state after that, which has the error if
// there was one.
func (v *Verifier) reload(ctx context.Context) (state, error) {
	s := v.current()
	if s.recent() { // another load has ended since the caller looked
		return s, nil
	}
	keys, err := v.fetch(ctx)
	s.asked, s.err = time.Now(), err
	if err == nil {
		s.keys, s.loaded = keys, s.asked
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.state = s
	return s, nil
}

// fetch returns the issuer's keys, from the address in its configuration. See
// OpenID Connect Discovery 1.0, section 4.
func (v *Verifier) fetch(ctx context.Context) (*oidc.StaticKeySet, error) {
	issuer := v.options.Issuer
	var about oidc.ProviderConfig
	if err := v.get(ctx, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration", &about); err != nil {
		return nil, err
	}
	if about.IssuerURL != issuer {
		return nil, fmt.Errorf("it calls itself %.200q: want exactly that in the configuration", about.IssuerURL)
	}
	if strings.HasPrefix(issuer, "https:") && !strings.HasPrefix(about.JWKSURL, "https:") {
		return nil, fmt.Errorf("its keys are at %.200q: want an https URL", about.JWKSURL)
	}
	var published struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := v.get(ctx, about.JWKSURL, &published); err != nil {
		return nil, err
	}
	set := &oidc.StaticKeySet{}
	for _, data := range published.Keys {
		var key jose.JSONWebKey
		// RFC 7517 section 5: keys that are not understood are left out.
		if err := json.Unmarshal(data, &key); err != nil || key.Use == "enc" {
			continue
		}
		switch key.Key.(type) {
		case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey:
			set.PublicKeys = append(set.PublicKeys, key.Key)
		}
	}
	if len(set.PublicKeys) == 0 {
		return nil, errors.New("it has no key to verify signatures with")
	}
	return set, nil
}

// get reads a JSON document. Errors do not quote it, because it may be anything.
func (v *Verifier) get(ctx context.Context, url string, document any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := v.options.Client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: status %d", url, resp.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("get %s: %w", url, err)
	case len(data) > maxAnswer:
		return fmt.Errorf("get %s: the answer has more than %d bytes", url, maxAnswer)
	case jsonlimit.Check(data, maxElements) != nil || json.Unmarshal(data, document) != nil:
		return fmt.Errorf("get %s: the answer is not the expected JSON", url)
	}
	return nil
}
