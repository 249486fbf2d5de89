package auth

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

func hashOf(t *testing.T, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

func wantLogin(t *testing.T, p *Passwords, user, password string, want error) {
	t.Helper()
	if err := p.Check(t.Context(), user, password); !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", user, err, want)
	}
}

func TestPasswords(t *testing.T) {
	p, err := NewPasswords(map[string]string{"ann": hashOf(t, "hunter2"), "bob": strings.Replace(hashOf(t, "hunter3"), "$2a$", "$2y$", 1)})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time the good ones are remembered
		wantLogin(t, p, "ann", "hunter2", nil)
		wantLogin(t, p, "bob", "hunter3", nil)
		wantLogin(t, p, "ann", "hunter3", ErrWrongLogin)
		wantLogin(t, p, "bob", "hunter2", ErrWrongLogin)
		wantLogin(t, p, "eve", "hunter2", ErrWrongLogin)
		wantLogin(t, p, "", "", ErrWrongLogin)
		wantLogin(t, p, "ann", strings.Repeat("x", 100), ErrWrongLogin)
	}
	if n := p.good.Len(); n != 2 {
		t.Errorf("%d logins are remembered, want the 2 good ones", n)
	}
	empty, err := NewPasswords(nil)
	if err != nil {
		t.Fatal(err)
	}
	wantLogin(t, empty, "ann", "hunter2", ErrWrongLogin)
}

// TestOneComparison: a good login is compared once for any number of requests, and a
// login that waits for its turn ends with its context.
func TestOneComparison(t *testing.T) {
	p, err := NewPasswords(map[string]string{"ann": hashOf(t, "hunter2")})
	if err != nil {
		t.Fatal(err)
	}
	compared := hold(t, p) // another login
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Check(ctx, "ann", "hunter2"); !errors.Is(err, context.Canceled) {
		t.Errorf("a request that has left: %v", err)
	}
	compared()
	wantLogin(t, p, "ann", "hunter2", nil)
	compared = hold(t, p)
	wantLogin(t, p, "ann", "hunter2", nil) // needs no turn
	compared()
	p.now = func() time.Time { return time.Now().Add(rememberGood) }
	compared = hold(t, p)
	if err := p.Check(ctx, "ann", "hunter2"); !errors.Is(err, context.Canceled) {
		t.Errorf("a login is remembered for too long: %v", err)
	}
	compared()
}

// hold takes the turn of a login of another client.
func hold(t *testing.T, p *Passwords) (leave func()) {
	t.Helper()
	leave, err := p.turns.Enter(t.Context(), "", "another", "")
	if err != nil {
		t.Fatal(err)
	}
	return leave
}

func TestConcurrentLogins(t *testing.T) {
	p, err := NewPasswords(map[string]string{"ann": hashOf(t, "hunter2")})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			if i%4 == 0 {
				wantLogin(t, p, "ann", fmt.Sprint(i), ErrWrongLogin)
			} else {
				wantLogin(t, p, "ann", "hunter2", nil)
			}
		})
	}
	wg.Wait()
}

func TestHtpasswd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "htpasswd")
	now := time.Now()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Minute)
		if err := os.Chtimes(path, now, now); err != nil { // clocks of file systems are coarse
			t.Fatal(err)
		}
	}
	write("# users\n\nann:" + hashOf(t, "hunter2") + "\r\n")
	p, err := OpenHtpasswd(path)
	if err != nil {
		t.Fatal(err)
	}
	p.now = func() time.Time { return now }
	var problems []error
	p.OnReloadError = func(err error) { problems = append(problems, err) }
	wantLogin(t, p, "ann", "hunter2", nil)

	write("ann:" + hashOf(t, "changed") + "\nbob:" + hashOf(t, "hunter3") + "\n")
	wantLogin(t, p, "ann", "hunter2", ErrWrongLogin) // not remembered either
	wantLogin(t, p, "ann", "changed", nil)
	wantLogin(t, p, "bob", "hunter3", nil)

	write("bob:hunter3\n")
	wantLogin(t, p, "ann", "changed", nil)
	now = now.Add(time.Minute)
	wantLogin(t, p, "ann", "changed", nil)
	if len(problems) != 1 || !strings.Contains(problems[0].Error(), path+":1: ") || strings.Contains(problems[0].Error(), "hunter3") {
		t.Errorf("problems %q, want one that names the line and no password", problems)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Minute)
	wantLogin(t, p, "ann", "changed", nil)
	write("bob:" + hashOf(t, "hunter4") + "\n")
	wantLogin(t, p, "ann", "changed", ErrWrongLogin)
	wantLogin(t, p, "bob", "hunter4", nil)
}

func TestBadHtpasswd(t *testing.T) {
	good := hashOf(t, "x")
	for text, says := range map[string]string{
		"ann":        ":1: want user:hash",
		"\n:" + good: ":2: a hash without a user",
		"ann:$apr1$ZjTqBB3f$IF9gdYAGlMrs2fuINjHsz":        `:1: the hash of "ann" is not bcrypt's`,
		"ann:{SHA}hunter2":                                `not bcrypt's`,
		"ann:" + strings.Replace(good, "$2a$", "$2x$", 1): `not bcrypt's`,
		"ann:$2a$04$" + strings.Repeat("!", 53):           `not bcrypt's`,
		"ann:" + good + "x":                               `not bcrypt's`,
		"ann:" + good + "\nann:" + good:                   `:2: the user "ann" is there twice`,
		"ann:" + strings.Replace(good, "$04$", "$15$", 1): "cost 15",
	} {
		path := filepath.Join(t.TempDir(), "htpasswd")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenHtpasswd(path); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v, want %q", text, err, says)
		}
	}
	if _, err := OpenHtpasswd("/nowhere/htpasswd"); err == nil {
		t.Error("a file that is not there holds users")
	}
}

func TestPolicy(t *testing.T) {
	var images []Pattern
	for _, text := range []string{"docker.io/library/*", "quay.io/team-a"} {
		p, err := ParsePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, p)
	}
	p := Policy{Images: images, Platforms: []string{"linux/amd64", "linux/arm64"}, TTL: time.Hour}
	wantDenied := func(err error, parts ...string) {
		t.Helper()
		d, ok := errors.AsType[*Denied](err)
		if !ok {
			t.Fatalf("%v, want *Denied", err)
		}
		for _, part := range parts {
			if !strings.Contains(d.Error(), part) {
				t.Errorf("%q does not say %q", d, part)
			}
		}
	}
	if err := p.CheckImage("docker.io", "library/ubuntu"); err != nil {
		t.Error(err)
	}
	wantDenied(p.CheckImage("docker.io", "someone/ubuntu"), "docker.io/someone/ubuntu", "docker.io/library/*, quay.io/team-a")
	wantDenied(p.CheckImage("quay.io", "team-ab"))
	for _, test := range []struct{ asked, want []string }{
		{nil, p.Platforms},
		{[]string{"linux/arm64"}, []string{"linux/arm64"}},
	} {
		if got, err := p.CheckPlatforms(test.asked); err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%q: %q, %v, want %q", test.asked, got, err, test.want)
		}
	}
	arm := Policy{Platforms: []string{"linux/arm/v7", "linux/ppc64le"}}
	for asked, want := range map[string]bool{
		"linux/arm/v7": true, "linux/arm/v6": false, "linux/arm": false, "linux/arm/v70": false,
		"linux/ppc64le": true, "linux/ppc64le/power9": true, "linux/ppc64": false, "linux/ppc64lex": false,
	} {
		if _, err := arm.CheckPlatforms([]string{asked}); (err == nil) != want {
			t.Errorf("%s: %v", asked, err)
		}
	}
	_, err := p.CheckPlatforms([]string{"linux/amd64", "linux/s390x"})
	wantDenied(err, "linux/s390x", "linux/amd64, linux/arm64")
	for asked, want := range map[time.Duration]time.Duration{0: time.Hour, time.Minute: time.Minute, time.Hour: time.Hour} {
		if got, err := p.CheckTTL(asked); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", asked, got, err, want)
		}
	}
	_, err = p.CheckTTL(time.Hour + 1)
	wantDenied(err, "1h0m0s")

	var all Policy
	platforms, platformErr := all.CheckPlatforms(nil)
	ttl, ttlErr := all.CheckTTL(time.Hour)
	if all.CheckImage("x.io", "y") != nil || platformErr != nil || platforms != nil || ttlErr != nil || ttl != time.Hour {
		t.Error("the zero policy refuses something")
	}
}

func TestPolicies(t *testing.T) {
	p := NewPolicies(map[string]Policy{"ci": {TTL: 1}, "*": {TTL: 2}})
	for identity, want := range map[string]time.Duration{"ci": 1, "": 2, "*": 2, "platform:0": 2, "CI": 2} {
		if got := p.Of(identity); got.TTL != want {
			t.Errorf("%q has the policy %d, want %d", identity, got.TTL, want)
		}
	}
	if got := NewPolicies(nil).Of("ci"); got.TTL != 0 {
		t.Error("there is a policy where none was given")
	}
}

func TestStaticByPath(t *testing.T) {
	k := Static(map[string]Credential{
		"quay.io": {Username: "all"}, "quay.io/team-a": {Username: "team"}, "quay.io/team-a/app": {Username: "app"},
		"ghcr.io/team": {Username: "g"}, "docker.io": {}, "quay.io/none": {},
	})
	for name, want := range map[string]string{
		"quay.io/x": "all", "quay.io/team-a": "team", "quay.io/team-a/x": "team", "quay.io/team-ab": "all", "quay.io/x/team-a": "all",
		"quay.io/team-a/app": "app", "quay.io/team-a/app/x": "app", "ghcr.io/x": "", "ghcr.io/team/x": "g", "ghcr.io/": "", "quay.io/": "all",
		"docker.io/x": "", "quay.io/none/x": "all",
	} {
		registry, repository, _ := strings.Cut(name, "/")
		c, err := k.Credential(t.Context(), Target{Registry: registry, Repository: repository})
		if err != nil || c.Username != want {
			t.Errorf("%s: %q, %v, want %q", name, c.Username, err, want)
		}
	}
}

// TestTenants: two identities with the same user name at a registry have their own
// passwords.
func TestTenants(t *testing.T) {
	sets := map[string]Keychain{
		"a": Static(map[string]Credential{"quay.io": {Username: "ci", Password: "hunter-a"}}),
		"b": Static(map[string]Credential{"quay.io": {Username: "ci", Password: "hunter-b"}}),
	}
	k := ByIdentity(func(identity string) Keychain { return sets[identity] })
	for identity, want := range map[string]string{"a": "hunter-a", "b": "hunter-b", "": "", "c": ""} {
		c, err := k.Credential(t.Context(), Target{Identity: identity, Registry: "quay.io", Repository: "x"})
		if err != nil || c.Password != want {
			t.Errorf("%q has another's password: %v", identity, err)
		}
	}
}

func TestMatching(t *testing.T) {
	p, err := ParsePattern("*.example.org/team/*")
	if err != nil {
		t.Fatal(err)
	}
	k := Matching([]Pattern{p}, ByIdentity(func(string) Keychain {
		return Static(map[string]Credential{"a.example.org": {Username: "u"}, "b.org": {Username: "u"}})
	}))
	for name, want := range map[string]string{"a.example.org/team/x": "u", "a.example.org/x": "", "b.org/team/x": ""} {
		registry, repository, _ := strings.Cut(name, "/")
		c, err := k.Credential(t.Context(), Target{Registry: registry, Repository: repository})
		if err != nil || c.Username != want {
			t.Errorf("%s: %q, %v", name, c.Username, err)
		}
	}
}
