package private

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/integration/engine"
	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// The tests of this package pull images whose layers no other test has, because an engine does not ask for a layer that it has.

// ownPuller returns a user that may pull team/app and no other repository.
func ownPuller(label string) upstream.User {
	u := harness.Puller(label)
	u.Repositories = []string{"team/app", "team/absent"}
	return u
}

// blobs returns the GET requests for blobs.
func blobs(requests []string) []string {
	return slices.DeleteFunc(requests, func(r string) bool {
		return !strings.HasPrefix(r, "GET ") || !strings.Contains(r, "/blobs/")
	})
}

// TestPrivateEngines pulls every byte of a private image through the proxy into
// each engine, and runs what was injected.
func TestPrivateEngines(t *testing.T) {
	engines := engine.Available(t)
	for kind, start := range map[string]func(testing.TB, ...upstream.User) *upstream.Private{
		"token": upstream.TokenRegistry, "htpasswd": upstream.HtpasswdRegistry, "TLS": upstream.TLSTokenRegistry,
	} {
		t.Run(kind, func(t *testing.T) {
			user := ownPuller("engines")
			reg := start(t, harness.Pusher(), user)
			reg.PushOwn(t, "team/app:1", 3)
			settings := map[string]string{"WAVEPROXY_REGISTRIES": string(harness.MustJSON(t, map[string]any{reg.Host: map[string]any{
				"plain_http": reg.CA == "", "ca": reg.CA, "username": user.Name, "password": user.Password,
			}}))}
			p := harness.StartProxy(t, "", settings)
			for _, e := range engines {
				t.Run(e.Name(), func(t *testing.T) {
					a := p.Augment(t, harness.Request{ContainerImage: reg.Host + "/team/app:1", ContainerConfig: harness.Greeter(t)})
					reg.Reset()
					pullOwn(t, e, a.TargetImage)
					if asked := blobs(reg.Requests()); len(asked) < 3 {
						t.Errorf("of 3 layers the engine pulled %q", asked)
					}
				})
			}
		})
	}
}

// TestPrivateLogins pulls with the credential in each place where it can be
// given. The token server's requests show that this credential was used.
func TestPrivateLogins(t *testing.T) {
	user := ownPuller("logins")
	reg := upstream.TokenRegistry(t, harness.Pusher(), user)
	reg.PushOwn(t, "team/app:1", 3)
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		harness.WritePrivate(t, path, text)
		return path
	}
	basic := base64.StdEncoding.EncodeToString([]byte(user.Name + ":" + user.Password))
	file("docker-credential-own", fmt.Sprintf(
		"#!/bin/sh\nread host\ntest \"$1 $host\" = 'get %s' || exit 1\necho '{\"ServerURL\": \"'$host'\", \"Username\": %q, \"Secret\": %q}'\n", reg.Host, user.Name, user.Password))
	file("docker-credential-token", fmt.Sprintf("#!/bin/sh\nread host\necho '{\"ServerURL\": \"'$host'\", \"Username\": \"<token>\", \"Secret\": %q}'\n", user.IdentityToken))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("TEST_SECRET", user.Password)
	t.Setenv("TEST_IDENTITY", user.IdentityToken)
	for name, test := range map[string]struct {
		login        map[string]string
		dockerConfig string // the content of the file
	}{
		"password":               {login: harness.Login(user)},
		"password in a file":     {login: map[string]string{"username": user.Name, "password_file": file("password", user.Password+"\n")}},
		"password in a variable": {login: map[string]string{"username": user.Name, "password_env": "TEST_SECRET"}},
		"identity":               {login: map[string]string{"identity_token": user.IdentityToken}},
		"identity in a file":     {login: map[string]string{"identity_token_file": file("identity", user.IdentityToken)}},
		"identity in a variable": {login: map[string]string{"identity_token_env": "TEST_IDENTITY"}},
		"docker login":           {dockerConfig: fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, reg.Host, basic)},
		"docker identity":        {dockerConfig: fmt.Sprintf(`{"auths": {%q: {"identitytoken": %q}}}`, reg.Host, user.IdentityToken)},
		"helper":                 {dockerConfig: fmt.Sprintf(`{"credHelpers": {%q: "own"}}`, reg.Host)},
		"helper for all":         {dockerConfig: `{"credsStore": "own"}`},
		"helper with a token":    {dockerConfig: fmt.Sprintf(`{"credHelpers": {%q: "token"}}`, reg.Host)},
		"configuration first": {login: harness.Login(user), dockerConfig: fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, reg.Host,
			base64.StdEncoding.EncodeToString([]byte("unknown:"+harness.SecretFor("unknown"))))},
	} {
		t.Run(name, func(t *testing.T) {
			if test.login == nil {
				test.login = map[string]string{}
			}
			settings := harness.OneRegistry(reg.Host, test.login)
			if test.dockerConfig != "" {
				settings["WAVEPROXY_DOCKER_CONFIG"] = file(strings.ReplaceAll(name, " ", "-")+".json", test.dockerConfig)
			}
			p := harness.StartProxy(t, "", settings)
			reg.Reset()
			reg.Tokens.Reset()
			a := p.Augment(t, harness.Request{ContainerImage: reg.Host + "/team/app:1", ContainerConfig: harness.Greeter(t)})
			if digest := harness.Verify(t, a.TargetImage); digest != a.TargetDigest {
				t.Errorf("pulled %s, promised was %s", digest, a.TargetDigest)
			}
			// The config and the three layers for the submission, and the layers once more.
			if asked := blobs(reg.Requests()); len(asked) != 7 {
				t.Errorf("the registry got the requests %q", asked)
			}
			wantTokenRequests(t, reg, user, 1)
		})
	}
}

// wantTokenRequests fails the test unless the user made n requests for tokens to
// pull team/app, and there was no other request.
func wantTokenRequests(t *testing.T, reg *upstream.Private, user upstream.User, n int) {
	t.Helper()
	want := slices.Repeat([]string{user.Name + " repository:team/app:pull"}, n)
	if got := reg.Tokens.Requests(); !slices.Equal(got, want) {
		t.Errorf("requests for tokens: %q, want %q", got, want)
	}
}
