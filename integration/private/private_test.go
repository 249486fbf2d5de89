package private

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/integration/engine"
	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// TestPrivateImages pulls and runs an augmented private image, with the
// credentials in each place where they can be given.
func TestPrivateImages(t *testing.T) {
	docker := engine.Available(t)[0]
	push, pull := harness.Pusher(), harness.Puller("pull")
	token := upstream.TokenRegistry(t, push, pull)
	htpasswd := upstream.HtpasswdRegistry(t, push, pull)
	for _, host := range []string{token.Host, htpasswd.Host} {
		upstream.PushAs(t, host, push, "busybox:oci")
	}
	passwordFile := filepath.Join(t.TempDir(), "password")
	harness.WritePrivate(t, passwordFile, pull.Password+"\n")
	t.Setenv("TEST_REGISTRY_PASSWORD", pull.Password)
	auths := filepath.Join(t.TempDir(), "config.json")
	harness.WritePrivate(t, auths, fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, token.Host, base64.StdEncoding.EncodeToString([]byte(pull.Name+":"+pull.Password))))
	helpers := filepath.Join(t.TempDir(), "config.json")
	harness.WritePrivate(t, helpers, fmt.Sprintf(`{"credHelpers": {%q: "test"}}`, token.Host))
	helperDir := t.TempDir()
	harness.WritePrivate(t, filepath.Join(helperDir, "docker-credential-test"), fmt.Sprintf("#!/bin/sh\nread host\necho '{\"ServerURL\": \"'$host'\", \"Username\": %q, \"Secret\": %q}'\n", pull.Name, pull.Password))
	t.Setenv("PATH", helperDir+":"+os.Getenv("PATH"))

	with := func(reg *upstream.Private, login map[string]string, more ...string) (string, map[string]string) {
		settings := harness.OneRegistry(reg.Host, login)
		for i := 0; i+1 < len(more); i += 2 {
			settings[more[i]] = more[i+1]
		}
		return reg.Host, settings
	}
	for name, setting := range map[string]func() (string, map[string]string){
		"token auth": func() (string, map[string]string) {
			return with(token, map[string]string{"username": pull.Name, "password": pull.Password})
		},
		"HTTP Basic": func() (string, map[string]string) {
			return with(htpasswd, map[string]string{"username": pull.Name, "password": pull.Password})
		},
		"password in a file": func() (string, map[string]string) {
			return with(token, map[string]string{"username": pull.Name, "password_file": passwordFile})
		},
		"password in a variable": func() (string, map[string]string) {
			return with(token, map[string]string{"username": pull.Name, "password_env": "TEST_REGISTRY_PASSWORD"})
		},
		"identity token": func() (string, map[string]string) {
			return with(token, map[string]string{"identity_token": pull.IdentityToken})
		},
		"Docker's config": func() (string, map[string]string) {
			return with(token, map[string]string{}, "WAVEPROXY_DOCKER_CONFIG", auths)
		},
		"credential helper": func() (string, map[string]string) {
			return with(token, map[string]string{}, "WAVEPROXY_DOCKER_CONFIG", helpers)
		},
	} {
		t.Run(name, func(t *testing.T) {
			host, settings := setting()
			p := harness.StartProxy(t, "", settings)
			a := p.Augment(t, harness.Request{ContainerImage: host + "/library/busybox:oci", ContainerConfig: harness.Greeter(t)})
			harness.MustPull(t, docker, a.TargetImage)
			if out := harness.MustRun(t, docker, a.TargetImage); out != harness.Greeting {
				t.Errorf("printed %q, want %q", out, harness.Greeting)
			}
		})
	}
}

// TestCredentialsByPath: the repositories below a path have credentials of their
// own.
func TestCredentialsByPath(t *testing.T) {
	push, pull := harness.Pusher(), harness.Puller("path")
	reg := upstream.TokenRegistry(t, push, pull)
	upstream.PushAs(t, reg.Host, push, "busybox:oci")
	p := harness.StartProxy(t, "", map[string]string{"WAVEPROXY_REGISTRIES": fmt.Sprintf(
		`{%q: {plain_http: true, username: wrong, password: %q}, %q: {username: %q, password: %q}}`,
		reg.Host, harness.SecretFor("wrong"), reg.Host+"/library", pull.Name, pull.Password)})
	p.Augment(t, harness.Request{ContainerImage: reg.Host + "/library/busybox:oci"})
	if a := p.Submit(t, harness.Request{ContainerImage: reg.Host + "/elsewhere/busybox:oci"}); a.Status != http.StatusForbidden || !strings.Contains(a.Message, `"wrong"`) {
		t.Errorf("outside of the path: %d %s", a.Status, a.Raw)
	}
}

// TestPrivateRefusals: every kind of refusal has its own message, which says what
// to do.
func TestPrivateRefusals(t *testing.T) {
	push, pull := harness.Pusher(), harness.Puller("refused")
	tokens := upstream.TokenRegistry(t, push, pull)
	basic := upstream.HtpasswdRegistry(t, push, pull)
	for _, host := range []string{tokens.Host, basic.Host} {
		upstream.PushAs(t, host, push, "busybox:oci", "usrmerge:latest")
	}
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(untrusted.Close)
	good := fmt.Sprintf("username: %q, password: %q", pull.Name, pull.Password)
	bad := fmt.Sprintf("username: %q, password: %q", pull.Name, harness.SecretFor("bad"))
	p := harness.StartProxy(t, "", map[string]string{"WAVEPROXY_REGISTRIES": fmt.Sprintf(
		`{good.test: {url: %[1]q, %[2]s}, bad.test: {url: %[1]q, %[3]s}, none.test: {url: %[1]q}, basic.test: {url: %[4]q, %[2]s},`+
			` basicbad.test: {url: %[4]q, %[3]s}, basicnone.test: {url: %[4]q}, closed.test: {url: "http://127.0.0.1:1", %[2]s},`+
			` tls.test: {url: %[5]q, %[2]s}, gone.test: {url: "https://gone.invalid", %[2]s}}`,
		tokens.URL, good, bad, basic.URL, untrusted.URL)})
	seen := map[string]string{}
	for image, test := range map[string]struct {
		status int
		says   []string
	}{
		"none.test/library/busybox:oci":      {403, []string{"without credentials", "configure credentials for none.test"}},
		"basicnone.test/library/busybox:oci": {403, []string{"without credentials", "configure credentials for basicnone.test"}},
		"bad.test/library/busybox:oci":       {403, []string{pull.Name, "registries.bad.test", "wrong"}},
		"basicbad.test/library/busybox:oci":  {403, []string{pull.Name, "registries.basicbad.test", "wrong"}},
		"good.test/library/usrmerge:latest":  {403, []string{pull.Name, "registries.good.test", "does not cover this name"}},
		"good.test/library/busybox:none":     {404, []string{"good.test/library/busybox:none", "does not exist"}},
		"basic.test/none/none:latest":        {404, []string{"basic.test/none/none:latest", "does not exist"}},
		"closed.test/library/busybox:oci":    {502, []string{"closed.test", "connection refused"}},
		"tls.test/library/busybox:oci":       {403, []string{"tls.test", "certificate", "give that as ca under registries"}},
		"gone.test/library/busybox:oci":      {harness.UnresolvedStatus(), []string{"gone.test", "cannot be resolved", "DNS"}},
	} {
		a := p.Submit(t, harness.Request{ContainerImage: image})
		if a.Status != test.status {
			t.Errorf("%s: status %d, want %d: %s", image, a.Status, test.status, a.Raw)
		}
		for _, part := range test.says {
			if !strings.Contains(a.Message, part) {
				t.Errorf("%s: %q does not say %q", image, a.Message, part)
			}
		}
		if other, same := seen[a.Message]; same {
			t.Errorf("%s and %s have one message: %s", image, other, a.Message)
		}
		seen[a.Message] = image
	}
	p.Augment(t, harness.Request{ContainerImage: "good.test/library/busybox:oci"})
	p.Augment(t, harness.Request{ContainerImage: "basic.test/library/busybox:oci"})
}

// TestShortLivedTokens pulls through a registry whose tokens end during the pull,
// because they expire and because the registry revokes them.
func TestShortLivedTokens(t *testing.T) {
	docker := engine.Available(t)[0]
	push, pull := harness.Pusher(), harness.Puller("short")
	pull.Repositories = []string{"*"}
	reg := upstream.TokenRegistry(t, push, pull)
	upstream.PushAs(t, reg.Host, push, "busybox:layers60", "busybox:oci")
	p := harness.StartProxy(t, "", harness.OneRegistry(reg.Host, map[string]string{"username": pull.Name, "password": pull.Password}))

	reg.Tokens.SetLifetime(2 * time.Second)
	a := p.Augment(t, harness.Request{ContainerImage: reg.Host + "/library/busybox:layers60", ContainerConfig: harness.Greeter(t)})
	time.Sleep(3 * time.Second) // the token of the submission has expired
	harness.MustPull(t, docker, a.TargetImage)
	if out := harness.MustRun(t, docker, a.TargetImage); out != harness.Greeting {
		t.Errorf("printed %q", out)
	}
	// A token for each request would be 60.
	if n := len(reg.Tokens.Requests()); n < 2 || n > 20 {
		t.Errorf("%d token requests for 60 layers with tokens of 2 s", n)
	}

	reg.Tokens.SetLifetime(time.Hour)
	a = p.Augment(t, harness.Request{ContainerImage: reg.Host + "/library/busybox:oci", ContainerConfig: harness.Greeter(t)})
	reg.Tokens.Revoke()
	reg.Tokens.Reset()
	harness.Verify(t, a.TargetImage) // reads the layers again, because Docker has them already
	want := pull.Name + " repository:library/busybox:pull"
	if got := reg.Tokens.Requests(); !slices.Equal(got, []string{want}) {
		t.Errorf("token requests after the registry ended a token: %q, want one", got)
	}
}

// TestWithdrawnCredentials: an image name holds no credential. When the
// credential that the image was made with is withdrawn, its layers can no longer
// be pulled, and the log says why.
func TestWithdrawnCredentials(t *testing.T) {
	push, pull := harness.Pusher(), harness.Puller("withdrawn")
	reg := upstream.TokenRegistry(t, push, pull)
	upstream.PushAs(t, reg.Host, push, "busybox:oci")
	dir := t.TempDir()
	p := harness.StartProxy(t, dir, harness.OneRegistry(reg.Host, map[string]string{"username": pull.Name, "password": pull.Password}))
	a := p.Augment(t, harness.Request{ContainerImage: reg.Host + "/library/busybox:oci", ContainerConfig: harness.Greeter(t)})
	p.Stop()

	changed := harness.OneRegistry(reg.Host, map[string]string{"username": pull.Name, "password": harness.SecretFor("changed")})
	changed["WAVEPROXY_HTTP_ADDR"] = p.Host
	p = harness.StartProxy(t, dir, changed)
	if err := harness.CraneValidate(t, a.TargetImage); err == nil || !strings.Contains(err.Error(), "DENIED") || !strings.Contains(err.Error(), pull.Name) {
		t.Errorf("with a wrong password: %v", err)
	}
	if log := p.Log.String(); !strings.Contains(log, pull.Name) || !strings.Contains(log, "is wrong, has expired or does not cover this name") {
		t.Error("the log does not say which credential is wrong")
	}
}

// TestTenants: two callers log in at a registry with one user name and two
// passwords. Neither gets an image that only the other may read, nor a token that
// was given out for the other.
func TestTenants(t *testing.T) {
	push := harness.Pusher()
	tenants := map[string]upstream.User{}
	users := []upstream.User{push}
	// Both users have one name, and the password decides their rights, as with
	// access tokens.
	for tenant, repository := range map[string]string{"a": "library/busybox", "b": "library/usrmerge"} {
		u := upstream.User{Name: "ci", Password: harness.SecretFor("tenant-" + tenant), Repositories: []string{repository}}
		tenants[tenant] = u
		users = append(users, u)
	}
	reg := upstream.TokenRegistry(t, users...)
	upstream.PushAs(t, reg.Host, push, "busybox:oci", "usrmerge:latest")
	keys := map[string]string{"a": harness.SecretFor("api-a"), "b": harness.SecretFor("api-b"), "c": harness.SecretFor("api-c")}
	p := harness.StartProxy(t, "", map[string]string{
		"WAVEPROXY_REGISTRIES": fmt.Sprintf(`{%q: {plain_http: true}}`, reg.Host),
		"WAVEPROXY_CREDENTIALS": fmt.Sprintf(`{a: {registries: {%[1]q: {username: ci, password: %[2]q}}}, b: {registries: {%[1]q: {username: ci, password: %[3]q}}}}`,
			reg.Host, tenants["a"].Password, tenants["b"].Password),
		"WAVEPROXY_API_AUTH":       "bearer",
		"WAVEPROXY_API_TOKENS":     fmt.Sprintf(`{a: {token: %q}, b: {token: %q}, c: {token: %q}}`, keys["a"], keys["b"], keys["c"]),
		"WAVEPROXY_API_IDENTITIES": `{a: {credentials: [a]}, b: {credentials: [b, shared]}, c: {images: [docker.io]}}`,
	})
	submit := func(tenant, image string) (harness.Answer, error) {
		resp, err := p.Call(t.Context(), http.MethodPost, "/v1alpha2/container", fmt.Sprintf(`{"containerImage": %q}`, reg.Host+"/library/"+image), "Authorization", "Bearer "+keys[tenant])
		if err != nil {
			return harness.Answer{}, err
		}
		return resp.Answer()
	}
	var wg sync.WaitGroup
	for range 5 {
		for _, q := range []struct {
			tenant, image string
			status        int
		}{
			{"a", "busybox:oci", 200}, {"b", "usrmerge:latest", 200}, {"a", "usrmerge:latest", 403}, {"b", "busybox:oci", 403}, {"c", "busybox:oci", 403},
		} {
			wg.Go(func() {
				if a, err := submit(q.tenant, q.image); err != nil || a.Status != q.status {
					t.Errorf("%s requests %s: %d %s %v, want %d", q.tenant, q.image, a.Status, a.Raw, err, q.status)
				}
			})
		}
	}
	wg.Wait()
	a, err := submit("a", "busybox:oci")
	if err != nil {
		t.Fatal(err)
	}
	b, err := submit("b", "usrmerge:latest")
	if err != nil {
		t.Fatal(err)
	}
	harness.Verify(t, a.TargetImage)
	harness.Verify(t, b.TargetImage)
	if a, err := submit("", "busybox:oci"); err != nil || a.Status != http.StatusUnauthorized {
		t.Errorf("without a login: %d %s %v", a.Status, a.Raw, err)
	}
	if a, err := submit("c", "busybox:oci"); err != nil || !strings.Contains(a.Message, "only docker.io") {
		t.Errorf("an image that the caller may not use: %s %v", a.Raw, err)
	}
}

// TestDockerLogin pulls from a server that requires a login besides the name.
func TestDockerLogin(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	password := harness.SecretFor("docker-login")
	settings := harness.DockerHub(reg.URL)
	users := upstream.HtpasswdFile(t, upstream.User{Name: "ann", Password: password})
	settings["WAVEPROXY_REGISTRY_AUTH"], settings["WAVEPROXY_REGISTRY_HTPASSWD"] = "basic", users
	p := harness.StartProxy(t, "", settings)
	a := p.Augment(t, harness.Request{ContainerImage: "busybox:oci", ContainerConfig: harness.Greeter(t)})
	docker := engine.Available(t)[0].(*engine.Docker)
	if out, err := docker.Pull(t.Context(), a.TargetImage); err == nil {
		t.Fatalf("pulled without a login:\n%s", out)
	}
	if err := docker.Login(t.Context(), p.Host, "ann", harness.SecretFor("wrong")); err == nil {
		t.Error("a wrong password is good for docker login")
	}
	if err := docker.Login(t.Context(), p.Host, "ann", password); err != nil {
		t.Fatal(err)
	}
	harness.MustPull(t, docker, a.TargetImage)
	if out := harness.MustRun(t, docker, a.TargetImage); out != harness.Greeting {
		t.Errorf("printed %q", out)
	}
}
