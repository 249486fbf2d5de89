package main

import (
	"context"
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/config"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// TestFileWatch: a change is what changes the contents, however it is made.
func TestFileWatch(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// As Kubernetes mounts a secret: file -> ..data/file, ..data -> ..1
	mount := func(version, text string) {
		do(os.Mkdir(at(version), 0o700))
		do(os.WriteFile(at(version+"/file"), []byte(text), 0o600))
		do(os.Symlink(version, at("..new")))
		do(os.Rename(at("..new"), at("..data")))
	}
	mount("..1", "one")
	do(os.Symlink("..data/file", at("mounted")))
	do(os.WriteFile(at("plain"), []byte("one"), 0o600))
	old := time.Now().Add(-time.Hour)
	now := time.Now()
	w := fileWatch{}
	paths := []string{at("mounted"), at("plain")}
	step := func(what string, want ...string) {
		t.Helper()
		now = now.Add(lookInterval)
		got := w.changed(paths, now)
		for i := range want {
			want[i] = at(want[i])
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q have changed, want %q", what, got, want)
		}
		if again := w.changed(paths, now); len(again) > 0 {
			t.Errorf("%s: %q have changed again", what, again)
		}
	}
	step("the first look")
	mount("..2", "two")
	step("a swapped link", "mounted")
	mount("..3", "two")
	step("a swapped link to equal contents")
	do(os.WriteFile(at("plain"), []byte("two"), 0o600))
	step("a file written in place", "plain")
	do(os.Chtimes(at("plain"), old, old))
	step("another time")
	do(os.WriteFile(at("next"), []byte("six"), 0o600))
	do(os.Chtimes(at("next"), old, old))
	do(os.Rename(at("next"), at("plain")))
	step("a renamed file of equal size and time", "plain")
	recent := now.Add(lookInterval) // as of a file that is written while it is looked at
	do(os.Chtimes(at("plain"), recent, recent))
	step("a recent time")
	do(os.WriteFile(at("plain"), []byte("ten"), 0o600))
	do(os.Chtimes(at("plain"), recent, recent))
	step("two changes of equal size within the clock's step", "plain")
	do(os.Remove(at("plain")))
	step("a removed file", "plain")
	do(os.WriteFile(at("plain"), []byte("ten"), 0o600))
	step("a file that is back", "plain")
}

// TestFilesTakeEffect: passwords, tokens and keys of files that change are used without
// a restart and a signal; a bad file keeps what was good and is told once.
func TestFilesTakeEffect(t *testing.T) {
	before := lookInterval
	lookInterval = time.Millisecond
	t.Cleanup(func() { lookInterval = before })
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := func(b byte) string { return base64.StdEncoding.EncodeToString(slices.Repeat([]byte{b}, 32)) }
	var wanted atomic.Value // the password of the registry
	wanted.Store("first")
	site := upstreamtest.New(t)
	site.PushImage(t, "team/app", "amd64", nil, "1")
	site.Answer(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != wanted.Load() {
			w.Header().Set("Www-Authenticate", `Basic realm="r"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		site.ServeObject(w, r)
	})
	cfg := config.Defaults()
	cfg.HTTP.Addr, cfg.Storage.Dir = "127.0.0.1:0", t.TempDir()
	cfg.Tokens.Keys = []config.TokenKey{{File: write("key", key(1))}}
	cfg.Registries = map[string]config.Registry{site.Host(): {PlainHTTP: true, Login: config.Login{Username: "ci", PasswordFile: write("password", "first")}}}
	cfg.API.Auth = config.APIBearer
	cfg.API.Tokens = map[string]config.BearerToken{"ci": {TokenFile: write("token", "the first token of ci")}}
	log := newLogged()
	ctx, cancel := context.WithCancel(t.Context())
	ready, served := make(chan string, 1), make(chan error, 1)
	go func() { served <- serve(ctx, cfg, nil, log.logger(), func(base string) { ready <- base }) }()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	base := <-ready
	submit := func(token string) (status int, body string) {
		t.Helper()
		text := `{"containerImage":"` + site.Host() + `/team/app:1","containerConfig":{"env":["A=1"]},"towerAccessToken":"` + token + `"}`
		return post(t, base+"/v1alpha2/container", text)
	}
	want := func(token string, status int) string {
		t.Helper()
		got, body := submit(token)
		if got != status {
			t.Errorf("with %q: %d %s, want %d", token, got, body, status)
		}
		return body
	}
	first := want("the first token of ci", http.StatusOK)
	wanted.Store("second")
	write("password", "second\n")
	log.wait(t, "renewed the logins of registries", "password")
	want("the first token of ci", http.StatusOK)

	write("token", "short")
	log.wait(t, "level=ERROR", "keeping the previous tokens", "characters")
	want("the first token of ci", http.StatusOK)
	write("token", "the second token of ci")
	log.wait(t, "renewed the tokens", "token")
	want("the first token of ci", http.StatusUnauthorized)
	want("the second token of ci", http.StatusOK)

	write("key", "nonsense")
	log.wait(t, "level=ERROR", "keeping the previous keys of tokens")
	if again := want("the second token of ci", http.StatusOK); nameIn(again) != nameIn(first) {
		t.Errorf("a bad key changed the token: %s, %s", again, first)
	}
	write("key", key(2))
	log.wait(t, "renewed the keys of tokens")
	if again := want("the second token of ci", http.StatusOK); nameIn(again) == nameIn(first) {
		t.Error("the new key signs nothing")
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	text := log.text.String()
	if n := strings.Count(text, "reload failed"); n != 2 {
		t.Errorf("%d faults are logged, want each of two once:\n%s", n, text)
	}
	for _, secret := range []string{"second token", "first token", "nonsense", key(2)} {
		if strings.Contains(text, secret) {
			t.Errorf("the log has %q", secret)
		}
	}
}

// TestRenewedKeys: tokens and grants get the same keys.
func TestRenewedKeys(t *testing.T) {
	key := func(b byte) config.TokenKey {
		return config.TokenKey{Key: config.Secret(base64.StdEncoding.EncodeToString(slices.Repeat([]byte{b}, 32)))}
	}
	cfg := config.Defaults()
	cfg.Storage.Dir, cfg.Tokens.Keys = t.TempDir(), []config.TokenKey{key(1)}
	s, err := openStorage(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := s.tokens.Mint(t.Context(), auth.Grant{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.grants.Put(t.Context(), "named/a", auth.Grant{}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		keys  []config.TokenKey
		known bool
	}{{[]config.TokenKey{key(2), key(1)}, true}, {[]config.TokenKey{key(2)}, false}, {[]config.TokenKey{{Key: "nonsense"}}, false}, {[]config.TokenKey{key(1)}, true}} {
		cfg.Tokens.Keys = step.keys
		if err := s.renewKeys(cfg); (err != nil) != (step.keys[0].Key == "nonsense") {
			t.Fatal(err)
		}
		_, opened := s.tokens.Open(t.Context(), token)
		_, _, got := s.grants.Get(t.Context(), "named/a")
		if (opened == nil) != step.known || (got == nil) != step.known {
			t.Errorf("with %d keys: token %v, grant %v, want them known: %t", len(step.keys), opened, got, step.known)
		}
	}
}

// nameIn returns the token of an answer.
func nameIn(answer string) string {
	_, rest, _ := strings.Cut(answer, `"targetImage":"`)
	name, _, _ := strings.Cut(rest, `"`)
	return name
}

func post(t *testing.T, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	status, answer, _ := send(t, req)
	return status, answer
}

// TestSignalAppliesLogins: SIGHUP applies logins, policies and more, and names what it
// does not apply.
func TestSignalAppliesLogins(t *testing.T) {
	r := runRecipes(t, "credentials: {team: {}}\napi: {identities: {'*': {images: [quay.io]}}}\nrecipes: {a: {env: [A=1]}}\n")
	submit := func() (int, string) {
		return post(t, "http://"+r.base+"/v1alpha2/container", `{"containerImage":"library/alpine:3.20","containerConfig":{"env":["A=1"]}}`)
	}
	if status, body := submit(); status != http.StatusForbidden || !strings.Contains(body, "only quay.io") {
		t.Errorf("before: %d %s", status, body)
	}
	r.rewrite(t, func(s string) string {
		return strings.NewReplacer("images: [quay.io]", "images: [docker.io]", "credentials: {team: {}}", "credentials: {team: {}, late: {}}\nlimits: {layers: 100}").Replace(s)
	})
	r.log.wait(t, "level=WARN", "restart to apply", `sections=[limits]`)
	r.log.wait(t, "recipes in force")
	if status, body := submit(); status == http.StatusForbidden {
		t.Errorf("after: %d %s", status, body)
	}
}
