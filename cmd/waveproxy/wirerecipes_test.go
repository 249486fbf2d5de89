package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/cmd/waveproxy/demo"
	"github.com/waveproxy/waveproxy/config"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/recipes"
	"github.com/waveproxy/waveproxy/upstream"
)

// logged is a log whose lines a test can wait for.
type logged struct {
	mu    sync.Mutex
	text  bytes.Buffer
	lines chan string
}

func newLogged() *logged { return &logged{lines: make(chan string, 1000)} }

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines <- string(p)
	return l.text.Write(p)
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// wait returns the next line that has all of the words.
func (l *logged) wait(t *testing.T, words ...string) string {
	t.Helper()
	for {
		select {
		case line := <-l.lines:
			if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
				return line
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%q was not logged", words)
		}
	}
}

// running is a server with a configuration file that can be changed.
type running struct {
	file, dir string
	base      string
	log       *logged
}

// run serves the recipes in front of the demo's registry, as Docker Hub, until
// the test ends.
func runRecipes(t *testing.T, recipes string) running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	hub, stop, err := demo.StartRegistry(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r := running{dir: t.TempDir(), log: newLogged()}
	r.file = filepath.Join(r.dir, "c.yml")
	r.configure(t, hub, recipes)
	load := func() (*config.Config, error) { return config.Load(r.file, nil) }
	cfg, err := load()
	if err != nil {
		t.Fatal(err)
	}
	ready, served := make(chan string, 1), make(chan error, 1)
	go func() { served <- serve(ctx, cfg, load, r.log.logger(), func(base string) { ready <- base }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		stop()
	})
	select {
	case base := <-ready:
		r.base = strings.TrimPrefix(base, "http://")
	case err := <-served:
		served <- nil
		t.Fatal(err)
	}
	return r
}

func (r running) configure(t *testing.T, hub, recipes string) {
	t.Helper()
	text := "http: {addr: '127.0.0.1:0'}\nstorage: {dir: " + r.dir + "/data}\nregistries:\n  docker.io: {url: 'http://" + hub + "'}\n" + recipes
	if err := os.WriteFile(r.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// rewrite changes the configuration and tells the server.
func (r running) rewrite(t *testing.T, change func(string) string) {
	t.Helper()
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.file, []byte(change(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}

// env pulls the demo's image through a recipe and returns its environment.
func (r running) env(t *testing.T, recipe string) []string {
	t.Helper()
	p, err := demo.Pull(t.Context(), r.base+"/wt/"+recipe+"/"+demo.Repository+":"+demo.Tag, ocispec.Platform{OS: "linux", Architecture: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Remove()
	return p.Config.Config.Env
}

func (r running) has(t *testing.T, recipe, env string) {
	t.Helper()
	if got := r.env(t, recipe); !slices.Contains(got, env) {
		t.Errorf("the environment of %s is %q, without %s", recipe, got, env)
	}
}

func TestReload(t *testing.T) {
	r := runRecipes(t, "recipes: {a: {env: [A=1]}, b: {env: [B=1]}}\n")
	r.has(t, "a", "A=1")
	replace := func(old, new string) func(string) string {
		return func(text string) string { return strings.Replace(text, old, new, 1) }
	}
	r.rewrite(t, replace("recipes: {a: {env: [A=1]}, b: {env: [B=1]}}", "recipes: {a: {env: [A=2]}, c: {env: [C=1], layers: [{path: "+r.dir+"/c.yml, target: }]}}\n"))
	r.log.wait(t, "level=ERROR", "keeping the previous recipes", "recipes.c.layers[0]: ")
	r.has(t, "a", "A=1")
	r.has(t, "b", "B=1")
	r.rewrite(t, replace(", layers: [{path: "+r.dir+"/c.yml, target: }]", ""))
	r.log.wait(t, "recipes in force", "recipes=\"[a c]\"", "added=[c]", "changed=[a]", "removed=[b]")
	r.has(t, "a", "A=2")
	r.has(t, "c", "C=1")
	resp, err := http.Get("http://" + r.base + "/v2/wt/b/" + demo.Repository + "/manifests/" + demo.Tag)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusNotFound || !strings.Contains(string(body), "no such recipe") {
		t.Errorf("the removed recipe: %s %s", resp.Status, body)
	}
	r.rewrite(t, replace("recipes:", "log: {level: debug}\nupstreams: {deny: [quay.io]}\nrecipes:"))
	r.log.wait(t, "level=WARN", "restart to apply", `sections="[log upstreams]"`)
	r.log.wait(t, "recipes in force", "added=[] changed=[] removed=[]")
	r.rewrite(t, replace("recipes:", "recipe:"))
	r.log.wait(t, "level=ERROR", "keeping the previous recipes", "recipe: unknown key")
	r.has(t, "c", "C=1")
	r.rewrite(t, func(text string) string {
		return strings.NewReplacer("recipe:", "credentials: {late: {}}\nrecipes:", "c: {", "c: {credentials: [late], ").Replace(text)
	})
	r.log.wait(t, "recipes in force", "changed=[c]")
}

// TestReloadAddsTheFirst: a server without recipes has no names of recipes, until
// it has one.
func TestReloadAddsTheFirst(t *testing.T) {
	r := runRecipes(t, "")
	resp, err := http.Get("http://" + r.base + "/v2/wt/a/" + demo.Repository + "/manifests/" + demo.Tag)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusNotFound || strings.Contains(string(body), "recipe") {
		t.Errorf("without recipes: %s %s", resp.Status, body)
	}
	r.rewrite(t, func(text string) string { return text + "recipes: {a: {env: [A=1]}}\n" })
	r.log.wait(t, "recipes in force", "added=[a]")
	r.has(t, "a", "A=1")
}

func TestBadRecipesDoNotStart(t *testing.T) {
	cfg := config.Defaults()
	cfg.HTTP.Addr, cfg.Storage.Dir = "127.0.0.1:0", t.TempDir()
	cfg.Recipes = map[string]config.Recipe{
		"a": {Layers: []config.RecipeLayer{{Path: "absent"}}}, "b": {ContainerConfigURL: config.Locations{"file:absent"}},
	}
	err := serve(t.Context(), cfg, nil, slog.New(slog.DiscardHandler), func(string) { t.Error("it serves") })
	want := strings.Join([]string{
		"recipes.a.layers[0]: stat absent: no such file or directory",
		"recipes.b.container_config_url: open absent: no such file or directory",
	}, "\n")
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want:\n%s", err, want)
	}
}

// TestCredentialsOfRecipes: a recipe has the logins that it names, those of the
// edition in force, and no others.
func TestCredentialsOfRecipes(t *testing.T) {
	cfg := config.Defaults()
	cfg.Registries = map[string]config.Registry{"quay.io": {Login: config.Login{Username: "shared", Password: "p"}}}
	cfg.Credentials = map[string]config.CredentialSet{"team": {Registries: map[string]config.Login{"quay.io": {Username: "team", Password: "p"}}}}
	cfg.API.Identities = map[string]config.Identity{"*": {Credentials: []string{"shared"}}}
	book := new(recipes.Book)
	keychain, err := newKeychain(cfg, newPolicies(cfg), book)
	if err != nil {
		t.Fatal(err)
	}
	forgotten := 0
	names := &namedRecipes{startConfig: cfg, book: book, log: slog.New(slog.DiscardHandler), forgetLogins: func() { forgotten++ }, told: func(_, _ []string) {}}
	recipe := func(credentials ...string) config.Recipe {
		return config.Recipe{Env: []config.Variable{"A=1"}, Credentials: credentials}
	}
	for _, step := range []struct {
		recipes map[string]config.Recipe
		want    map[string]string // the user of an identity
	}{
		{nil, map[string]string{"recipe:a": "", "recipe:": "", "a": "shared", "": "shared"}},
		{map[string]config.Recipe{"a": recipe(), "b": recipe("team", "shared"), "c": recipe("shared")}, map[string]string{
			"recipe:a": "", "recipe:b": "team", "recipe:c": "shared", "recipe:d": "", "recipe:": "", "b": "shared",
		}},
		{map[string]config.Recipe{"a": recipe("team")}, map[string]string{"recipe:a": "team", "recipe:b": ""}},
	} {
		changed := *cfg
		changed.Recipes = step.recipes
		if err := names.apply(t.Context(), &changed); err != nil {
			t.Fatal(err)
		}
		for identity, want := range step.want {
			c, err := keychain.Credential(t.Context(), auth.Target{Identity: identity, Registry: "quay.io", Repository: "a/b"})
			if err != nil || c.Username != want {
				t.Errorf("%q logs in as %q (%v), want %q", identity, c.Username, err, want)
			}
		}
	}
	if forgotten != 3 {
		t.Errorf("logins were forgotten %d times, want 3", forgotten)
	}
}

// TestPolicyOfRecipes: the rules for callers do not bind recipes, and the rules
// for all do.
func TestPolicyOfRecipes(t *testing.T) {
	hub := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(hub.Close)
	host := strings.TrimPrefix(hub.URL, "http://")
	cfg := config.Defaults()
	cfg.Registries = map[string]config.Registry{host: {PlainHTTP: true}}
	cfg.API.Identities = map[string]config.Identity{"*": {Images: []auth.Pattern{pattern(t, "quay.io")}}}
	cfg.Upstreams.Deny = []auth.Pattern{pattern(t, host+"/denied")}
	client, err := newUpstream(cfg, nil, new(recipes.Book))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	ask := func(identity, repository string) error {
		_, err := client.Repository(auth.Target{Identity: identity, Registry: host, Repository: repository}).Manifest(t.Context(), "latest")
		return err
	}
	if err := ask("", "a"); front.ProblemOf(err).Status != http.StatusForbidden {
		t.Errorf("a caller: %v", err)
	}
	for repository, want := range map[string]upstream.Kind{"a": upstream.NotFound, "denied": upstream.Forbidden} {
		err := ask("recipe:a", repository)
		if e, ok := errors.AsType[*upstream.Error](err); !ok || e.Kind != want {
			t.Errorf("a recipe, %s: %v", repository, err)
		}
	}
}

func pattern(t *testing.T, text string) auth.Pattern {
	t.Helper()
	p, err := auth.ParsePattern(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
