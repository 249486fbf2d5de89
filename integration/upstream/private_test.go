package upstream

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

var (
	testPusher = User{Name: "pusher", Password: "p1", Repositories: []string{"*"}, Push: true}
	testPuller = User{Name: "ci", Password: "p2", IdentityToken: "identity", Repositories: []string{"team/app"}}
)

// validated pulls a complete image and checks its digests.
func validated(t *testing.T, p *Private, image string, as authn.Authenticator) error {
	t.Helper()
	ref, err := name.ParseReference(p.Host+"/"+image, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	pulled, err := remote.Image(ref, remote.WithContext(t.Context()), remote.WithAuth(as), remote.WithTransport(p.client.Transport))
	if err != nil {
		return err
	}
	return validate.Image(pulled)
}

// TestPrivate pulls with a client that shares nothing with the code under test.
func TestPrivate(t *testing.T) {
	for kind, start := range map[string]func(testing.TB, ...User) *Private{
		"token": TokenRegistry, "TLS": TLSTokenRegistry, "htpasswd": HtpasswdRegistry,
	} {
		t.Run(kind, func(t *testing.T) {
			p := start(t, testPuller, testPusher)
			p.PushOwn(t, "team/app:1", 3)
			p.PushOwn(t, "team/other:1", 1)
			limited := kind != "htpasswd"
			for what, test := range map[string]struct {
				image string
				as    authn.Authenticator
				good  bool
			}{
				"right":           {"team/app:1", &authn.Basic{Username: "ci", Password: "p2"}, true},
				"identity token":  {"team/app:1", authn.FromConfig(authn.AuthConfig{IdentityToken: "identity"}), limited},
				"wrong password":  {"team/app:1", &authn.Basic{Username: "ci", Password: "p1"}, false},
				"wrong identity":  {"team/app:1", authn.FromConfig(authn.AuthConfig{IdentityToken: "another"}), false},
				"anonymous":       {"team/app:1", authn.Anonymous, false},
				"no permission":   {"team/other:1", &authn.Basic{Username: "ci", Password: "p2"}, !limited},
				"another's image": {"team/other:1", &authn.Basic{Username: "pusher", Password: "p1"}, true},
			} {
				if err := validated(t, p, test.image, test.as); (err == nil) != test.good {
					t.Errorf("%s: %v, want success %t", what, err, test.good)
				}
			}
			p.SetUsers(t, User{Name: "ci", Password: "p3", Repositories: []string{"team/app"}})
			if err := validated(t, p, "team/app:1", &authn.Basic{Username: "ci", Password: "p2"}); err == nil {
				t.Error("the old password is still good")
			}
			if err := validated(t, p, "team/app:1", &authn.Basic{Username: "ci", Password: "p3"}); err != nil {
				t.Errorf("the new password: %v", err)
			}
		})
	}
}

// tokenFor asks the token server with the user's password.
func tokenFor(t *testing.T, p *Private, u User, scope string) string {
	t.Helper()
	parameters := url.Values{"service": {tokenService}, "scope": {scope}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.URL+tokenPath+"?"+parameters.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(u.Name, u.Password)
	resp, err := p.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Token     string `json:"token"`
		ExpiresIn int    `json:"expires_in"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatalf("%s: %v", resp.Status, err)
	}
	if answer.ExpiresIn < 1 {
		t.Errorf("expires in %d s", answer.ExpiresIn)
	}
	return answer.Token
}

// with requests a manifest with a token and returns the status and challenge.
func with(t *testing.T, p *Private, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.URL+"/v2/team/app/manifests/1", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", string(oci.manifest))
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := p.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode, resp.Header.Get("Www-Authenticate")
}

// TestTokensEnd: the registry's own access controller refuses both expired and
// revoked tokens.
func TestTokensEnd(t *testing.T) {
	const scope = "repository:team/app:pull"
	wantEnded := func(t *testing.T, p *Private, token string) {
		t.Helper()
		want := fmt.Sprintf(`Bearer realm="%s/token",service="registry.test",scope="%s",error="invalid_token"`, p.URL, scope)
		if status, challenge := with(t, p, token); status != http.StatusUnauthorized || challenge != want {
			t.Errorf("status %d, challenge %s, want 401, %s", status, challenge, want)
		}
	}
	wantGood := func(t *testing.T, p *Private, token string) {
		t.Helper()
		if status, challenge := with(t, p, token); status != http.StatusOK {
			t.Errorf("status %d, challenge %s", status, challenge)
		}
	}
	p := TokenRegistry(t, testPuller, testPusher)
	p.PushOwn(t, "team/app:1", 1)
	p.Tokens.Reset()
	t.Run("revoked", func(t *testing.T) {
		token := tokenFor(t, p, testPuller, scope)
		wantGood(t, p, token)
		p.Tokens.Revoke()
		wantEnded(t, p, token)
		wantGood(t, p, tokenFor(t, p, testPuller, scope))
	})
	t.Run("expired", func(t *testing.T) {
		p.Tokens.SetLifetime(2 * time.Second)
		defer p.Tokens.SetLifetime(time.Minute)
		token := tokenFor(t, p, testPuller, scope)
		wantGood(t, p, token)
		time.Sleep(3 * time.Second)
		wantEnded(t, p, token)
	})
	t.Run("insufficient", func(t *testing.T) {
		if status, challenge := with(t, p, tokenFor(t, p, testPuller, "repository:team/other:pull")); status != http.StatusUnauthorized || !strings.Contains(challenge, `error="insufficient_scope"`) {
			t.Errorf("status %d, challenge %s", status, challenge)
		}
	})
	want := append(slices.Repeat([]string{"ci " + scope}, 3), "ci repository:team/other:pull")
	if diff := cmp.Diff(want, p.Tokens.Requests()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if n := p.Tokens.Refused(); n != 3 {
		t.Errorf("%d tokens were refused, want 3", n)
	}
}

// TestMeet: what happens while a request waits has happened when it is served.
func TestMeet(t *testing.T) {
	p := TokenRegistry(t, testPuller, testPusher)
	p.PushOwn(t, "team/app:1", 1)
	p.Tokens.Reset()
	ours := tokenFor(t, p, testPuller, "repository:team/app:pull")
	p.Meet(func(*http.Request) { p.Tokens.Revoke() })
	if status, _ := with(t, p, ours); status != http.StatusUnauthorized {
		t.Errorf("status %d", status)
	}
}
