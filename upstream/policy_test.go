package upstream

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/auth"
)

func patterns(t *testing.T, texts ...string) []auth.Pattern {
	t.Helper()
	var all []auth.Pattern
	for _, text := range texts {
		p, err := auth.ParsePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

const (
	byAllow = "upstreams.allow in its configuration does not name it"
	byDeny  = "upstreams.deny in its configuration forbids it"
)

func TestPolicy(t *testing.T) {
	type question struct{ registry, repository, says string }
	for name, test := range map[string]struct {
		allow, deny []string
		questions   []question
	}{
		"nothing configured": {nil, nil, []question{{"quay.io", "a", ""}, {"quay.io", "", ""}}},
		"allow": {[]string{"docker.io/library/*", "ghcr.io"}, nil, []question{
			{"docker.io", "library/ubuntu", ""},
			{"docker.io", "evil/ubuntu", byAllow},
			{"docker.io", "", ""}, // some of it may be read, so one may log in
			{"ghcr.io", "a/b", ""},
			{"ghcr.io", "", ""},
			{"quay.io", "a", byAllow},
			{"quay.io", "", byAllow},
			{"ghcr.io:5000", "a/b", byAllow},
		}},
		"deny": {nil, []string{"quay.io", "docker.io/evil/*"}, []question{
			{"quay.io", "a", byDeny},
			{"quay.io", "", byDeny},
			{"QUAY.io", "a", byDeny},
			{"quay.io:443", "a", byDeny},
			{"quay.io:80", "a", byDeny},
			{"quay.io.", "a", byDeny},
			{"quay.io.:443", "a", byDeny},
			{"quay.io:0443", "a", byDeny},
			{"quay.io:0080", "a", byDeny},
			{"quay.io:", "a", byDeny},
			{"Quay.io.:00443", "a", byDeny},
			{"quay.io:5000", "a", ""},
			{"docker.io", "evil/app", byDeny},
			{"registry-1.docker.io", "evil/app", byDeny},
			{"index.docker.io:443", "evil/app", byDeny},
			{"registry.hub.docker.com", "evil/app", byDeny},
			{"registry-1.docker.io:0443", "evil/app", byDeny},
			{"docker.io", "library/ubuntu", ""},
			{"docker.io", "", ""}, // some of it is not denied
		}},
		"deny by a wildcard": {nil, []string{"*:443", "registry-*.docker.io"}, []question{{"quay.io", "a", byDeny}, {"docker.io", "library/a", byDeny}}},
		"deny addresses": {nil, []string{"10.0.0.1:5000", "[2001:db8::1]"}, []question{
			{"[::ffff:a00:1]:05000", "a", byDeny}, {"[2001:DB8:0::1]:443", "a", byDeny}, {"10.0.0.1", "a", ""}}},
		"deny with a port":       {nil, []string{"quay.io:443"}, []question{{"quay.io", "a", byDeny}}},
		"deny Docker Hub's API":  {nil, []string{"registry-1.docker.io"}, []question{{"docker.io", "library/ubuntu", byDeny}}},
		"deny wins":              {[]string{"quay.io"}, []string{"quay.io/evil/*"}, []question{{"quay.io", "evil/a", byDeny}, {"quay.io", "a", ""}}},
		"deny wins over itself":  {[]string{"quay.io/a"}, []string{"*"}, []question{{"quay.io", "a", byDeny}, {"quay.io", "", byDeny}}},
		"any registry of a team": {[]string{"*/team/*"}, nil, []question{{"quay.io", "team/a", ""}, {"quay.io", "", ""}, {"quay.io", "a", byAllow}}},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := newClient(t, Options{Allow: patterns(t, test.allow...), Deny: patterns(t, test.deny...)})
			for _, q := range test.questions {
				err := c.permitted(c.Repository(auth.Target{Registry: q.registry, Repository: q.repository}).call("pull from", ""), nil)
				if q.says == "" {
					if err != nil {
						t.Errorf("%s/%s: %v", q.registry, q.repository, err)
					}
					continue
				}
				full, err2 := auth.RegistryHost(q.registry)
				if err2 != nil {
					t.Fatal(err2)
				}
				if q.repository != "" {
					full += "/" + q.repository
				}
				wantError(t, err, Forbidden, "pull from "+full+": this server does not pull from "+full+": "+q.says)
			}
		})
	}
}

// silent makes the test fail at every DNS query and every connection of the
// client.
func silent(t *testing.T, c *Client) {
	touched := func(context.Context, string, string) (net.Conn, error) {
		t.Error("the network was touched")
		return nil, errors.New("no network")
	}
	for _, transport := range []*http.Transport{direct(c, false, "").short, direct(c, false, "").long, direct(c, true, "").short, direct(c, true, "").long} {
		transport.DialContext = touched
	}
}

func TestEveryCallAsksThePolicy(t *testing.T) {
	d := ocispec.Descriptor{Digest: digest.FromString("x"), Size: 1}
	asked := keychainFunc(func(auth.Target) (auth.Credential, error) {
		t.Error("the keychain was asked")
		return auth.Credential{}, nil
	})
	for name, call := range map[string]func(*Client, *Repository) error{
		"manifest by tag": func(_ *Client, r *Repository) error { _, err := r.Manifest(t.Context(), "1.0"); return err },
		"manifest":        func(_ *Client, r *Repository) error { _, err := r.Manifest(t.Context(), d.Digest.String()); return err },
		"config":          func(_ *Client, r *Repository) error { _, err := r.Blob(t.Context(), d); return err },
		"layer":           func(_ *Client, r *Repository) error { _, err := r.Layer(t.Context(), d); return err },
		"transport":       func(c *Client, _ *Repository) error { _, err := blobRequest(t, c, "GET", http.Header{}); return err },
		"transport, HEAD": func(c *Client, _ *Repository) error { _, err := blobRequest(t, c, "HEAD", http.Header{}); return err },
		"log in": func(c *Client, _ *Repository) error {
			_, err := c.CheckLogin(t.Context(), "example.org", "ci", "hunter2")
			return err
		},
		"URL": func(c *Client, _ *Repository) error {
			_, _, err := c.Fetch(t.Context(), "https://example.org/layer.tar.gz?signature=1")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := newClient(t, Options{Keychain: asked, Deny: patterns(t, "example.org")})
			silent(t, c)
			wantError(t, call(c, c.Repository(image)), Forbidden, "this server does not pull from example.org", byDeny)
			if name == "URL" {
				return // has no name that could be allowed
			}
			c, _ = newClient(t, Options{Keychain: asked, Allow: patterns(t, "quay.io")})
			silent(t, c)
			wantError(t, call(c, c.Repository(image)), Forbidden, "this server does not pull from example.org", byAllow)
		})
	}
}

func TestDeniedRegistryIsNoHostForLayers(t *testing.T) {
	s := newServer(t, serveBlob)
	from := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, s.URL+"/layer", http.StatusFound)
	})
	o := Options{Registries: map[string]Registry{"example.org": {URL: s.URL}, "example.net": {URL: from.URL}}}
	for _, test := range []struct{ deny, url, says string }{
		{"example.org", "https://example.org/layer", byDeny},
		{"example.org", "http://EXAMPLE.org:80/layer", byDeny},
		{"example.org", "https://example.org./layer", byDeny},
		{"example.org", "https://ｅxample.org/layer", "ASCII"}, // net/http takes it for example.org
		{"docker.io", "https://registry-1.docker.io/v2/", byDeny},
		{"example.org", s.URL + "/layer", byDeny}, // where that registry is
		{"example.org", from.URL, byDeny},         // which leads there
		{"example.org/team/*", s.URL + "/layer", ""},
		{"example.com", s.URL + "/layer", ""},
	} {
		t.Run(test.deny+" "+test.url, func(t *testing.T) {
			o.Deny = patterns(t, test.deny)
			c, _ := newClient(t, o)
			r, _, err := c.Fetch(t.Context(), test.url)
			if test.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				r.Close()
				s.WantRequests(t, "GET /layer")
				return
			}
			wantError(t, err, Forbidden, test.says)
			s.WantRequests(t)
		})
	}
	// The policy does not apply to the hosts where an allowed registry keeps its
	// blobs.
	o.Deny = patterns(t, "example.org")
	c, _ := newClient(t, o)
	layer, err := c.Repository(auth.Target{Registry: "example.net", Repository: "a"}).Layer(t.Context(), blobDesc)
	if err != nil {
		t.Fatal(err)
	}
	layer.Close()
	s.WantRequests(t, "GET /layer")
}

func TestPatternThatIsNone(t *testing.T) {
	if _, err := New(Options{Allow: make([]auth.Pattern, 1)}); err == nil {
		t.Error("the zero pattern is taken")
	}
}

// TestPermit: the identity's permission is checked before any I/O.
func TestPermit(t *testing.T) {
	s := newServer(t, status(500))
	o := listed(s)
	refusal := errors.New("not for you")
	var asked []auth.Target
	o.Permit = func(target auth.Target) error {
		asked = append(asked, target)
		return refusal
	}
	c, _ := newClient(t, o)
	target := image
	target.Identity = "team-a"
	if _, err := c.Repository(target).Manifest(t.Context(), "latest"); !errors.Is(err, refusal) {
		t.Errorf("manifest: %v", err)
	}
	if _, err := c.Repository(target).Layer(t.Context(), blobDesc); !errors.Is(err, refusal) {
		t.Errorf("layer: %v", err)
	}
	if len(asked) != 2 || asked[0] != target || asked[1] != target {
		t.Errorf("asked about %v", asked)
	}
	s.WantRequests(t)
}
