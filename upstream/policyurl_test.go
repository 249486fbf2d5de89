package upstream

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/auth"
)

// TestURLsAreJudged: a URL that names a repository is judged as that repository,
// by allow, deny and the identity's policy. Other paths of a listed registry need
// the whole of it, or its setting.
func TestURLsAreJudged(t *testing.T) {
	ann := errors.New("not for ann")
	permit := func(t auth.Target) error {
		if t.Identity == "ann" && t.Registry == "hub.local" && !strings.HasPrefix(t.Repository, "team-a/") {
			return ann
		}
		return nil
	}
	registries := map[string]Registry{
		"hub.local":        {URL: "http://10.0.0.1:5000"},
		"files.local":      {PlainHTTP: true, Files: true},
		"other.local:5000": {PlainHTTP: true},
	}
	const anybody, admin = "bob", "\x00"
	for _, test := range []struct {
		allow, deny string
		identity    string
		url         string
		want        bool
	}{
		{"", "", anybody, "http://10.0.0.1:5000/v2/team-b/app/blobs/sha256:0", true},
		{"", "", anybody, "http://10.0.0.1:5000/file.tar", true},
		{"", "", "ann", "http://10.0.0.1:5000/v2/team-a/app/blobs/sha256:0", true},
		{"", "", "ann", "http://10.0.0.1:5000/v2/team-a/app/manifests/1", true},
		{"", "", "ann", "http://10.0.0.1:5000/v2/team-b/app/blobs/sha256:0", false},
		{"", "", "ann", "http://10.0.0.1:05000/v2/team-b/app/blobs/sha256:0", false},
		{"", "", "ann", "http://[::ffff:10.0.0.1]:5000/v2/team-b/app/blobs/sha256:0", false},
		{"", "", "ann", "http://10.0.0.1:5000/v2/team-a/../team-b/app/blobs/sha256:0", false},
		{"", "", "ann", "http://10.0.0.1:5000/v2/team-a/%2e%2e/team-b/app/blobs/sha256:0", false},
		{"", "", "ann", "http://10.0.0.1:5000//v2/team-b/app/blobs/sha256:0", false},
		{"", "", "ann", "http://10.0.0.1:5000/v2/team-a%2f..%2fteam-b/app/blobs/sha256:0", false},
		{"", "", "ann", "http://10.0.0.1:5000/V2/team-b/app/blobs/sha256:0", false},
		{"", "", "ann", "http://10.0.0.1:5000/v2/_catalog", false},
		{"", "", "ann", "http://10.0.0.1:5000/file.tar", false},
		{"", "", "ann", "http://files.local/file.tar", true},
		{"", "", "ann", "https://elsewhere.example/v2/team-b/app/blobs/sha256:0", true},
		{"hub.local/team-a/*", "", anybody, "http://10.0.0.1:5000/v2/team-a/app/blobs/sha256:0", true},
		{"hub.local/team-a/*", "", anybody, "http://10.0.0.1:5000/v2/team-b/app/blobs/sha256:0", false},
		{"hub.local/team-a/*", "", anybody, "http://10.0.0.1:5000/file.tar", false},
		{"hub.local/team-a/*", "", anybody, "http://files.local/file.tar", true},
		{"hub.local/team-a/*", "", anybody, "http://files.local/v2/a/blobs/sha256:0", false},
		{"hub.local/team-a/*", "", anybody, "http://files.local//v2/a/blobs/sha256:0", false},
		{"hub.local/team-a/*", "", anybody, "http://files.local/x/../v2/_catalog", false},
		{"hub.local/team-a/*", "", anybody, "http://other.local:5000/file.tar", false},
		{"hub.local/team-a/*", "", admin, "http://other.local:5000/file.tar", true},
		{"hub.local/team-a/*", "", admin, "http://10.0.0.1:5000/v2/team-b/app/blobs/sha256:0", false},
		{"hub.local", "", anybody, "http://10.0.0.1:5000/file.tar", true},
		{"hub.local/team-a/*", "", anybody, "https://elsewhere.example/file.tar", true},
		{"", "hub.local/secret/*", anybody, "http://10.0.0.1:5000/v2/secret/app/blobs/sha256:0", false},
		{"", "hub.local/secret/*", anybody, "http://10.0.0.1:5000/v2/team-b/app/blobs/sha256:0", true},
		{"", "hub.local/secret/*", anybody, "http://10.0.0.1:5000/ui/secret.tar", false},
		{"", "hub.local/secret/*", admin, "http://10.0.0.1:5000/v2/secret/app/blobs/sha256:0", false},
		{"", "hub.local", admin, "http://10.0.0.1:5000/file.tar", false},
		{"", "quay.io/evil/*", anybody, "https://quay.io:0443/v2/evil/app/blobs/sha256:0", false},
		{"", "docker.io/evil/*", anybody, "https://registry-1.docker.io/v2/evil/app/blobs/sha256:0", false},
		{"", "quay.io/evil/*", anybody, "https://quay.io/v2/good/app/blobs/sha256:0", true},
	} {
		o := Options{Registries: registries, Permit: permit}
		if test.allow != "" {
			o.Allow = patterns(t, test.allow)
		}
		if test.deny != "" {
			o.Deny = patterns(t, test.deny)
		}
		c, _ := newClient(t, o)
		ctx := t.Context()
		if test.identity != admin {
			ctx = As(ctx, test.identity)
		}
		if err := c.CheckURL(ctx, test.url); (err == nil) != test.want {
			t.Errorf("allow %q, deny %q, %s by %q: %v", test.allow, test.deny, test.url, test.identity, err)
		}
		if test.want {
			continue
		}
		silent(t, c)
		if _, _, err := c.Fetch(ctx, test.url); err == nil {
			t.Errorf("allow %q, deny %q, %s by %q is fetched", test.allow, test.deny, test.url, test.identity)
		}
	}
}

// TestRedirectsAreJudged: where a URL leads on to is judged like the URL.
func TestRedirectsAreJudged(t *testing.T) {
	hub := newServer(t, func(http.ResponseWriter, *http.Request) { t.Error("BREACH: the repository was asked") })
	files := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, hub.URL+"/v2/team-b/app/blobs/sha256:0", http.StatusTemporaryRedirect)
	})
	o := Options{
		Registries: map[string]Registry{"hub.local": {URL: hub.URL}, "files.local": {URL: files.URL, Files: true}},
		Permit: func(t auth.Target) error {
			if t.Identity == "ann" && strings.HasPrefix(t.Repository, "team-b/") {
				return errors.New("not for ann")
			}
			return nil
		},
	}
	c, _ := newClient(t, o)
	_, _, err := c.Fetch(As(context.Background(), "ann"), files.URL+"/file.tar")
	wantError(t, err, Forbidden, "not for ann")
}

// TestCheck answers without a call what the call would be refused for.
func TestCheck(t *testing.T) {
	c, _ := newClient(t, Options{Deny: patterns(t, "quay.io/evil/*"), Permit: func(t auth.Target) error {
		if t.Identity == "ann" {
			return errors.New("not for ann")
		}
		return nil
	}})
	silent(t, c)
	for _, test := range []struct {
		target auth.Target
		want   bool
	}{
		{auth.Target{Registry: "quay.io", Repository: "a"}, true},
		{auth.Target{Registry: "quay.io:0443", Repository: "evil/a"}, false},
		{auth.Target{Registry: "quay..io", Repository: "a"}, false},
		{auth.Target{Identity: "ann", Registry: "quay.io", Repository: "a"}, false},
	} {
		if err := c.Check(test.target); (err == nil) != test.want {
			t.Errorf("%+v: %v", test.target, err)
		}
	}
}
