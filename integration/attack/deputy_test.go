package attack

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/integration/harness"
)

// TestAttackDeputy has registries without a credential try to make the server use
// another registry's credential. Others try to have identity tokens, which are
// sent in bodies, sent on.
func TestAttackDeputy(t *testing.T) {
	t.Parallel()
	image := newTinyImage(t)
	var owner, thief, other *witness
	atOther := func() string { return other.URL }
	other = newWitness(t, httptest.NewServer, image)
	owner = newWitness(t, httptest.NewServer, lure{image, func() string { return owner.URL }, atOther})
	thief = newWitness(t, httptest.NewServer, lure{image, func() string { return thief.URL }, func() string { return owner.URL }})
	burglar := newWitness(t, httptest.NewServer, lure{image, atOther, func() string { return owner.URL + "/v2/basic-x/a/manifests/x?" }})
	var sender *witness
	sender = newWitness(t, httptest.NewServer, lure{image, func() string { return sender.URL }, atOther})
	docker := filepath.Join(t.TempDir(), "config.json")
	none := base64.StdEncoding.EncodeToString([]byte("<token>:"))
	if err := os.WriteFile(docker, fmt.Appendf(nil, `{"auths": {%q: {"auth": %q, "identitytoken": %q}}}`, sender.host(), none, identityToken), 0o600); err != nil {
		t.Fatal(err)
	}
	p := harness.StartProxy(t, "", map[string]string{
		"WAVEPROXY_DOCKER_CONFIG": docker,
		"WAVEPROXY_REGISTRIES": fmt.Sprintf(`{%q: {plain_http: true, username: ci, password: %s}, %q: {plain_http: true}, %q: {plain_http: true}, %q: {plain_http: true}, %q: {plain_http: true}}`,
			owner.host(), password, thief.host(), other.host(), sender.host(), burglar.host()),
	})
	for name, test := range map[string]struct {
		members   map[string]any
		status    int
		unknowing []*witness // servers that must not receive any secret
	}{
		"a token for another service": {map[string]any{"containerImage": thief.host() + "/realm-x/a:x"}, 200, []*witness{owner}},
		"a redirect into a registry with a login": {
			map[string]any{"containerImage": burglar.host() + "/none-manifest/a:x"}, 502, []*witness{owner, burglar}},
		"a layer's URL at a registry with a login": {
			map[string]any{"containerImage": other.host() + "/a:x", "containerConfig": layerAt(owner.URL + "/v2/basic-x/a/blobs/" + image.Layer.GzipDigest)}, 403, []*witness{owner}},
		"a layer's URL with a login in it": {
			map[string]any{"containerImage": other.host() + "/a:x", "containerConfig": layerAt("http://ci:" + password + "@" + other.host() + "/l.tar.gz")}, 403, []*witness{other}},
		"an identity token for another host's redirect": {map[string]any{"containerImage": sender.host() + "/redirected-x/a:x"}, 403, []*witness{other}},
	} {
		t.Run(name, func(t *testing.T) {
			witnesses := []*witness{owner, thief, other, burglar, sender}
			for _, w := range witnesses {
				w.all()
			}
			r := p.Post(t, submission, test.members)
			if r.Status != test.status {
				t.Errorf("status %d, want %d: %s", r.Status, test.status, r.Body)
			}
			for _, w := range test.unknowing {
				told := w.all()
				if found := secrets(told); len(found) != 0 {
					t.Errorf("BREACH: %s was told %q", w.URL, found)
				}
			}
			for _, secret := range []string{password, identityToken} {
				if strings.Contains(r.Body+p.Log.String(), secret) {
					t.Errorf("BREACH: the answer or the log has %s", secret)
				}
			}
		})
	}

	// The control: the owner gets its own secrets.
	owner.all()
	sender.all()
	if r := p.Post(t, submission, map[string]any{"containerImage": owner.host() + "/basic-x/a:x"}); r.Status != http.StatusOK || len(secrets(owner.all())) == 0 {
		t.Errorf("the owner's own image: %d %s", r.Status, r.Body)
	}
	if r := p.Post(t, submission, map[string]any{"containerImage": sender.host() + "/bearer-x/a:x"}); r.Status != http.StatusOK || len(secrets(sender.all())) == 0 {
		t.Errorf("an image for an identity token: %d %s", r.Status, r.Body)
	}
}
