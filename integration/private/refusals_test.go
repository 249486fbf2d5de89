package private

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/integration/engine"
	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// refusal is a submission that must be refused, with its cause.
type refusal struct {
	cause  string // refusals with the same cause may have the same message
	image  string
	status int
	says   []string
	silent []string // texts that would mislead
}

// shape returns the message without the names in it, for comparison with others.
func (r refusal) shape(message string) string {
	host, path, _ := strings.Cut(r.image, "/")
	repository, tag, _ := strings.Cut(path, ":")
	return strings.NewReplacer(r.image, "IMAGE", repository, "REPOSITORY", tag, "TAG", host, "HOST").Replace(message)
}

// TestPrivateMessages submits every wrong combination of image and credential.
// Each has a message of its own, which says what to change.
func TestPrivateMessages(t *testing.T) {
	user := ownPuller("messages")
	wrong := func(label string) upstream.User {
		return upstream.User{Name: user.Name, Password: harness.SecretFor(label), IdentityToken: harness.SecretFor(label)}
	}
	token, basic := upstream.TokenRegistry(t, harness.Pusher(), user), upstream.HtpasswdRegistry(t, harness.Pusher(), user)
	trusted, untrusted := upstream.TLSTokenRegistry(t, harness.Pusher(), user), upstream.TLSTokenRegistry(t, harness.Pusher(), user)
	unlisted := upstream.HtpasswdRegistry(t, harness.Pusher(), user)
	for _, reg := range []*upstream.Private{token, basic, trusted, untrusted, unlisted} {
		reg.PushOwn(t, "team/app:1", 1)
		reg.Reset()
	}
	token.PushOwn(t, "team/other:1", 1)
	at := func(reg *upstream.Private, login map[string]string) map[string]string {
		login["url"] = reg.URL
		return login
	}
	noLogin := func() map[string]string { return map[string]string{} }
	dockerConfig := filepath.Join(t.TempDir(), "config.json")
	harness.WritePrivate(t, dockerConfig, fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, unlisted.Host, base64.StdEncoding.EncodeToString([]byte(user.Name+":"+user.Password))))
	trustedLogin := harness.Login(user)
	trustedLogin["ca"] = trusted.CA
	p := harness.StartProxy(t, "", map[string]string{"WAVEPROXY_DOCKER_CONFIG": dockerConfig, "WAVEPROXY_REGISTRIES": string(harness.MustJSON(t, map[string]map[string]string{
		"good.test": at(token, harness.Login(user)), "none.test": at(token, noLogin()), "bad.test": at(token, harness.Login(wrong("bad"))),
		"identity.test": at(token, map[string]string{"identity_token": wrong("identity").IdentityToken}),
		"basic.test":    at(basic, harness.Login(user)), "basicnone.test": at(basic, noLogin()), "basicbad.test": at(basic, harness.Login(wrong("basicbad"))),
		"trusted.test": at(trusted, trustedLogin), "untrusted.test": at(untrusted, harness.Login(user)),
		"closed.test": {"url": "http://127.0.0.1:1", "username": user.Name, "password": user.Password},
	}))})
	for _, image := range []string{"good.test/team/app:1", "basic.test/team/app:1", "trusted.test/team/app:1"} {
		p.Augment(t, harness.Request{ContainerImage: image})
	}
	who := fmt.Sprintf("user %q from registries.", user.Name)
	shapes := map[string]string{} // cause by shape
	for _, r := range []refusal{
		{"no credentials", "none.test/team/app:1", 403, []string{"401", "without credentials", "private", "configure credentials for none.test"}, []string{user.Name, "wrong"}},
		{"no credentials", "basicnone.test/team/app:1", 403, []string{"401", "without credentials", "private", "configure credentials for basicnone.test"}, []string{user.Name, "wrong"}},
		{"rejected", "bad.test/team/app:1", 403, []string{"401", who + "bad.test", "wrong"}, []string{"without credentials"}},
		{"rejected", "basicbad.test/team/app:1", 403, []string{"401", who + "basicbad.test", "wrong"}, []string{"without credentials"}},
		{"rejected identity", "identity.test/team/app:1", 403, []string{"401", "a token from registries.identity.test", "expired"}, []string{"without credentials"}},
		{"no permission", "good.test/team/other:1", 403, []string{"good.test/team/other:1", who + "good.test", "cover"}, []string{"without credentials"}},
		{"absent", "good.test/team/absent:1", 404, []string{"good.test/team/absent:1", "404", "does not exist", "check the name"}, []string{"credential"}},
		{"absent", "basic.test/team/absent:1", 404, []string{"basic.test/team/absent:1", "404", "does not exist"}, []string{"credential"}},
		{"absent", "good.test/team/app:none", 404, []string{"good.test/team/app:none", "404", "does not exist"}, []string{"credential"}},
		{"unreachable", "closed.test/team/app:1", 502, []string{"no connection to 127.0.0.1:1", "connection refused", "check that it is up"}, []string{"credential", "certificate"}},
		{"untrusted", "untrusted.test/team/app:1", 403, []string{untrusted.Host, "certificate", "unknown authority", "ca under registries"}, []string{"credential"}},
		{"private address", unlisted.Host + "/team/app:1", 403, []string{unlisted.Host, "not at a public address", "list it under registries"}, []string{"credential"}},
	} {
		t.Run(r.cause+" "+r.image, func(t *testing.T) {
			before := harness.Stored(t, p.Dir)
			a := p.Submit(t, harness.Request{ContainerImage: r.image, ContainerConfig: harness.Greeter(t)})
			if a.Status != r.status {
				t.Errorf("status %d, want %d", a.Status, r.status)
			}
			harness.WantMessage(t, a.Raw, r.says...)
			for _, text := range r.silent {
				if strings.Contains(a.Message, text) {
					t.Errorf("message %q says %q", a.Message, text)
				}
			}
			shape := r.shape(a.Message)
			if cause, same := shapes[shape]; same && cause != r.cause {
				t.Errorf("%s has the message of %s: %q", r.cause, cause, a.Message)
			}
			shapes[shape] = r.cause
			if after := harness.Stored(t, p.Dir); after != before {
				t.Errorf("it stored something:\n%s", after)
			}
		})
	}
	for name, reg := range map[string]*upstream.Private{"unlisted": unlisted, "untrusted": untrusted} {
		if requests := reg.Requests(); len(requests) != 0 {
			t.Errorf("the %s registry got %q", name, requests)
		}
	}
}

// TestPrivateWithdrawn withdraws a login after images were made with it. Their
// names hold no credential, so no client can pull their layers any more. The
// engine and the log say why. When the login is good again, so are the names.
func TestPrivateWithdrawn(t *testing.T) {
	engines := engine.Available(t)
	for kind, start := range map[string]func(testing.TB, ...upstream.User) *upstream.Private{
		"token": upstream.TokenRegistry, "htpasswd": upstream.HtpasswdRegistry,
	} {
		t.Run(kind, func(t *testing.T) {
			user, push := ownPuller("withdrawn"), harness.Pusher()
			reg := start(t, push, user)
			reg.PushOwn(t, "team/app:1", 2)
			p := harness.StartProxy(t, "", harness.OneRegistry(reg.Host, harness.Login(user)))
			a := p.Augment(t, harness.Request{ContainerImage: reg.Host + "/team/app:1", ContainerConfig: harness.Greeter(t)})
			changed := user
			changed.Password = harness.SecretFor("changed")
			reg.SetUsers(t, push, changed)
			if reg.Tokens != nil {
				reg.Tokens.Revoke()
			}
			says := []string{reg.Host + "/team/app@sha256:", "401 Unauthorized", fmt.Sprintf("user %q from registries.%s", user.Name, reg.Host), "wrong, has expired"}
			for _, e := range engines {
				from := len(p.Log.String())
				out, err := e.Pull(t.Context(), a.TargetImage)
				if err == nil {
					t.Errorf("%s pulled with the old password:\n%s", e.Name(), out)
				}
				if found := harness.Leaks([]byte(strings.ReplaceAll(out, a.ContainerToken, ""))); len(found) != 0 {
					t.Errorf("%s prints secrets: %q", e.Name(), found)
				}
				texts := map[string]string{"the log": strings.ReplaceAll(p.Log.String()[from:], `\"`, `"`)}
				if e.Name() == "docker" { // the others print no more than the status
					texts[e.Name()] = strings.ReplaceAll(out, `\"`, `"`)
				}
				for where, text := range texts {
					for _, want := range says {
						if !strings.Contains(text, want) {
							t.Errorf("%s does not say %q:\n%s", where, want, text)
						}
					}
				}
			}
			for _, d := range layersOf(t, p, a) {
				r := harness.Do(t, http.MethodGet, p.URL+"/v2/wt/"+a.ContainerToken+"/team/app/blobs/"+d)
				harness.WantRegistryError(t, "a layer", r, http.StatusForbidden, "DENIED")
			}
			reg.SetUsers(t, push, user)
			for _, e := range engines {
				pullOwn(t, e, a.TargetImage)
			}
		})
	}
}
