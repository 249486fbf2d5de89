package registry

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/front"
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

// TestNamedNames holds which repository a path names.
func TestNamedNames(t *testing.T) {
	net := newNetwork(t)
	s := net.start(func(o *Options) { o.Aliases["team"] = "quay.io" })
	for _, test := range []struct{ path, ns, want string }{
		{"busybox", "", "docker.io/library/busybox"},
		{"library/busybox", "", "docker.io/library/busybox"},
		{"biocontainers/x", "", "docker.io/biocontainers/x"},
		{"docker.io/busybox", "", "docker.io/library/busybox"},
		{"index.docker.io/busybox", "", "docker.io/library/busybox"},
		{"registry-1.docker.io/library/busybox", "", "docker.io/library/busybox"},
		{"quay.io/a/b", "", "quay.io/a/b"},
		{"registry.local/team/app", "", "registry.local:5000/team/app"},
		{"team/a/b", "", "quay.io/a/b"},
		{"team", "", "docker.io/library/team"},
		{"library/busybox", "docker.io", "docker.io/library/busybox"},
		{"busybox", "docker.io", "docker.io/library/busybox"},
		{"busybox", "registry-1.docker.io", "docker.io/library/busybox"},
		{"busybox", "index.docker.io", "docker.io/library/busybox"},
		{"a/b", "QUAY.io", "quay.io/a/b"},
		{"a/b", "registry.local:5000", "registry.local:5000/a/b"},
		{"a/b", "registry.local", "registry.local:5000/a/b"},
		{"a/b", "[::1]:5000", "[::1]:5000/a/b"},
		// With ns, the path is the repository, whatever it begins with.
		{"docker.io/library/busybox", "quay.io", "quay.io/docker.io/library/busybox"},
		{"quay.io/a", "quay.io", "quay.io/quay.io/a"},
		{"team/a", "quay.io", "quay.io/team/a"},
		{"a/b", "quay.io:0443", "quay.io/a/b"},
		{"a/b", "quay.io.", "quay.io/a/b"},
		{"busybox", "registry.hub.docker.com", "docker.io/library/busybox"},
		{"a/b", "[::0:1]:05000", "[::1]:5000/a/b"},
		{"a/b", "unqualified", ""},
		{"a/b", "quay.io/more", ""},
		{"a/b", "http://quay.io", ""},
		{"a/b", "quay.io:x", ""},
		{"a/b", "user@quay.io", ""},
		{"a/b", "quay.io?x=", ""},
		{"a/b", "../quay.io", ""},
	} {
		q, err := s.server.named.paths.parse(route{token: "tools", name: test.path}, test.ns)
		got := ""
		if err == nil {
			got = q.ref.Name()
		}
		if got != test.want {
			t.Errorf("%s?ns=%s is %q, %v; want %q", test.path, test.ns, got, err, test.want)
		}
		if err != nil && front.ProblemOf(err).Status != 404 {
			t.Errorf("%s?ns=%s: %v", test.path, test.ns, front.ProblemOf(err))
		}
	}
}

// TestNamedMirror sends the requests of containerd with override_path.
func TestNamedMirror(t *testing.T) {
	net := newNetwork(t)
	s := net.start()
	net.PushIndex(t, "library/app", "1", "one", "amd64")
	root := s.get("tools/library/app/manifests/1?ns=docker.io").digest()
	if s.get("tools/library/app/manifests/"+root.String()+"?ns=docker.io").digest() != root || s.get(toolsApp+"1").digest() != root {
		t.Error("the image differs by the name of its repository")
	}
	// ns is a name and not an address: the upstream's policy and dialer decide.
	net.TakeRequests()
	for _, ns := range []string{"127.0.0.1:1", "localhost:5000", "169.254.169.254"} {
		if a := s.do("GET", "tools/library/app/manifests/1?ns="+ns); a.status != 403 {
			t.Errorf("ns=%s: status %d, %s", ns, a.status, a.body)
		}
	}
	net.WantAnyOrder(t)
}

func TestNamedRefusals(t *testing.T) {
	net := newNetwork(t)
	recipe, _ := net.Recipe("tools")
	recipe.Images = patterns(t, "quay.io/biocontainers/*")
	net.setRecipe("only", recipe)
	s := net.start()
	net.PushIndex(t, "library/app", "1", "one", "amd64")
	for path, want := range map[string]struct {
		status int
		text   string
	}{
		"tools/library/app/tags/list":                      {404, "list tags of docker.io/library/app"},
		"nothing/library/app/manifests/1":                  {404, "no such recipe"},
		"only/library/app/manifests/1":                     {403, "recipes.only.images"},
		"only/library/app/tags/list":                       {403, "recipes.only.images"},
		"tools/library/app/manifests/2":                    {404, "docker.io/library/app:2"},
		"abcdefghijklmnopqrstuvwxyz234567ab/a/manifests/1": {404, "unknown token"},
	} {
		a := s.do("GET", path)
		if a.status != want.status || !strings.Contains(string(a.body), want.text) || strings.Contains(string(a.body), "abcdefghijklmnopqrstuvwxyz234567ab") {
			t.Errorf("%s: status %d, %s; want %d, %q", path, a.status, a.body, want.status, want.text)
		}
	}
}

// TestNamedPing: a ping tells a recipe of the configuration from a mistyped one, and says
// nothing of tokens.
func TestNamedPing(t *testing.T) {
	s := newNetwork(t).start()
	for path, want := range map[string]int{
		"/wt/tools/v2/": 200, "/wt/tools/v2": 200, "/wt/tolls/v2/": 404, "/wt/t/v2": 404, "/v2/": 200, "/v2": 200,
		"/wt/" + strings.Repeat("a", 39) + "/v2/": 200,
	} {
		w := httptest.NewRecorder()
		s.server.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != want {
			t.Errorf("%s: status %d, want %d: %s", path, w.Code, want, w.Body)
		}
	}
}

// TestNoRecipes: while the configuration has no recipe, a short name is an unknown
// token. A recipe is served from the reload that brings it to the one that removes
// it.
func TestNoRecipes(t *testing.T) {
	net := newNetwork(t)
	net.PushIndex(t, "library/app", "1", "one", "amd64")
	tools, _ := net.Recipe("tools")
	without := net.start(func(o *Options) { o.Recipes = nil }).do("GET", toolsApp+"1")
	net.removeRecipes()
	s := net.start()
	for range 2 {
		if a := s.do("GET", toolsApp+"1"); a.status != without.status || !bytes.Equal(a.body, without.body) || !strings.Contains(string(a.body), "unknown token") {
			t.Errorf("status %d, %s; want the answer of a server without Recipes: %d, %s", a.status, a.body, without.status, without.body)
		}
		net.setRecipe("tools", tools)
		s.get(toolsApp + "1")
		net.removeRecipes()
	}
}

// TestNamedTagServers: servers that share the store share what they learn about
// tags, and each serves the digests that another one has advertised.
func TestNamedTagServers(t *testing.T) {
	net := newNetwork(t)
	a, b := net.start(), net.start()
	net.PushIndex(t, "library/app", "1", "one", "amd64", "arm64")
	first := a.get(toolsApp + "1").digest()
	net.TakeRequests()
	if a, err := b.try(t.Context(), "HEAD", toolsApp+"1"); err != nil || a.digest() != first {
		t.Errorf("digest %s, %v", a.digest(), err)
	}
	net.WantAnyOrder(t)
	pull(t, "tools/library/app", "1", a, b, net.start())

	// The tag moves; one of them notices, by its own clock.
	net.advance(tagTTL - time.Second)
	a.do("HEAD", toolsApp+"1")
	net.advance(2 * time.Second)
	net.PushIndex(t, "library/app", "1", "two", "amd64", "arm64")
	second := a.do("HEAD", toolsApp+"1").digest()
	if second == first {
		t.Fatal("the tag has moved, and the image is still the previous one")
	}
	net.TakeRequests()
	if got := b.do("HEAD", toolsApp+"1").digest(); got != second {
		t.Errorf("the other server says %s", got)
	}
	net.WantAnyOrder(t)
	// A is killed. A server that was just started serves each digest.
	a.proxy.Close()
	for _, root := range []string{first.String(), second.String()} {
		for _, d := range pull(t, "tools/library/app", root, b) {
			fresh := net.start()
			if fresh.do("HEAD", toolsApp+d.String()).status != 200 && fresh.do("HEAD", "tools/library/app/blobs/"+d.String()).status != 200 {
				t.Errorf("%s is missing at a server that was just started", d)
			}
			fresh.proxy.Close()
		}
	}
}

// TestNamedReload: a new recipe is used at once. Digests that the previous recipe
// made stay good, while the new one is for their repository.
func TestNamedReload(t *testing.T) {
	net := newNetwork(t)
	s := net.start()
	net.PushIndex(t, "library/app", "1", "one", "amd64")
	old := s.get(toolsApp + "1").digest()
	net.TakeRequests()
	recipe, _ := net.Recipe("tools")
	recipe.Recipe = augment.Recipe{Env: []string{"A=2"}}
	net.setRecipe("tools", recipe)
	if s.get(toolsApp+"1").digest() == old {
		t.Error("the tag still has the image of the previous recipe")
	}
	pull(t, "tools/library/app", old.String(), s, net.start())
	net.setRecipe("tools", assemble.NamedRecipe{Recipe: recipe.Recipe, Images: patterns(t, "quay.io/*"), Identity: recipe.Identity})
	for _, path := range []string{toolsApp + "1", toolsApp + old.String(), "tools/library/app/blobs/" + net.layer.Digest.String(), "tools/library/app/referrers/" + old.String()} {
		if a := s.do("GET", path); a.status != 403 || !strings.Contains(string(a.body), "recipes.tools.images") {
			t.Errorf("%s: status %d, %s", path, a.status, a.body)
		}
	}
}

// TestNamedRebinding: a web page whose name leads to this server's address reads no
// image of a recipe. Container engines do, whatever their mirror is called.
func TestNamedRebinding(t *testing.T) {
	net := newNetwork(t)
	net.PushIndex(t, "library/app", "1", "one", "amd64")
	s := net.start(func(o *Options) { o.Names = []string{"proxy.example.org:9090"} })
	for _, tt := range []struct {
		host, header, value string
		status              int
	}{
		{"evil.example", "Accept-Language", "en", 421},
		{"evil.example:9090", "Accept-Language", "", 421},
		{"evil.example", "Sec-Fetch-Mode", "cors", 421},
		{"mirror.example.com", "User-Agent", "containerd/2.0", 200},
		{"proxy.example.org", "Accept-Language", "en", 200},
		{"127.0.0.1:5000", "Accept-Language", "en", 200},
		{"localhost", "Accept-Language", "en", 200},
	} {
		r := httptest.NewRequest(http.MethodGet, "/v2/wt/tools/library/app/manifests/1", nil)
		r.Host = tt.host
		r.Header[tt.header] = []string{tt.value}
		w := httptest.NewRecorder()
		front.Front{Log: slog.New(slog.DiscardHandler)}.Handler(s.server).ServeHTTP(w, r)
		if w.Code != tt.status {
			t.Errorf("%s with %s: status %d, %s", tt.host, tt.header, w.Code, w.Body)
		}
	}
}
