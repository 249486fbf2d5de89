package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestCredentialShowsNoSecret(t *testing.T) {
	secrets := []string{"hunter2", "idtok", "regtok"}
	credentials := map[string]Credential{
		`user "ann" from registries.docker.io`: {Username: "ann", Password: "hunter2", IdentityToken: "idtok", RegistryToken: "regtok", Source: "registries.docker.io"},
		"a token from docker config":           {IdentityToken: "idtok", Source: "docker config"},
		"anonymous":                            {},
	}
	for want, c := range credentials {
		nested := struct{ Upstream *Credential }{&c}
		var log bytes.Buffer
		for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
			slog.New(h).Info("login", "credential", c, "nested", nested, "map", map[string]Credential{"x": c})
		}
		data, err := json.Marshal(nested)
		if err != nil {
			t.Fatal(err)
		}
		printed := fmt.Sprintf("%v %+v %#v %s %q %x %d %v %#v", c, c, c, c, c, c, c, &c, []Credential{c})
		for _, out := range []string{printed, c.String(), log.String(), string(data)} {
			for _, secret := range secrets {
				if strings.Contains(out, secret) || strings.Contains(out, fmt.Sprintf("%x", secret)) {
					t.Errorf("%s shows %s", out, secret)
				}
			}
		}
		if c.String() != want || fmt.Sprintf("%v", c) != want || fmt.Sprintf("%#v", c) != want {
			t.Errorf("prints %q, %v and %#v, want %q", c.String(), c, c, want)
		}
	}
}

func TestCredentialIsZero(t *testing.T) {
	for _, c := range []Credential{{Username: "u"}, {Password: "p"}, {IdentityToken: "i"}, {RegistryToken: "r"}} {
		if c.IsZero() {
			t.Errorf("%s is zero", c)
		}
	}
	if !(Credential{Source: "docker config"}).IsZero() {
		t.Error("a source is no credential")
	}
}

// keychainFunc is a function as a keychain, so that tests can count calls and
// make them fail.
type keychainFunc func(Target) (Credential, error)

func (f keychainFunc) Credential(_ context.Context, t Target) (Credential, error) { return f(t) }

func TestFirstOf(t *testing.T) {
	none := keychainFunc(func(Target) (Credential, error) { return Credential{Source: "none"}, nil })
	ann := keychainFunc(func(Target) (Credential, error) { return Credential{Username: "ann"}, nil })
	bob := keychainFunc(func(Target) (Credential, error) { return Credential{Username: "bob"}, nil })
	broken := errors.New("vault is sealed")
	fails := keychainFunc(func(Target) (Credential, error) { return Credential{}, broken })
	tests := map[string]struct {
		keychains []Keychain
		want      string
		err       error
	}{
		"no keychains":       {nil, "", nil},
		"none has it":        {[]Keychain{none, none}, "", nil},
		"first wins":         {[]Keychain{ann, bob}, "ann", nil},
		"second knows":       {[]Keychain{none, bob, ann}, "bob", nil},
		"found before error": {[]Keychain{ann, fails}, "ann", nil},
		"error stops":        {[]Keychain{none, fails, ann}, "", broken},
	}
	for name, tt := range tests {
		c, err := FirstOf(tt.keychains...).Credential(t.Context(), Target{Registry: "docker.io"})
		if c.Username != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}

	want := Target{Identity: "ann", Registry: "quay.io", Repository: "a/b"}
	var got Target
	spy := keychainFunc(func(t Target) (Credential, error) { got = t; return Credential{}, nil })
	if _, err := FirstOf(spy).Credential(t.Context(), want); err != nil || got != want {
		t.Errorf("asked for %+v, %v", got, err)
	}
}

func TestStatic(t *testing.T) {
	configured := map[string]Credential{
		"docker.io":           {Username: "hub", Password: "p"},
		"registry.local:5000": {Username: "local", Password: "p", Source: "flags"},
	}
	k := Static(configured)
	delete(configured, "docker.io") // the keychain has its own copy
	tests := map[string]struct {
		registry string
		want     Credential
	}{
		"docker.io":  {"docker.io", Credential{Username: "hub", Password: "p", Source: "registries.docker.io"}},
		"with port":  {"registry.local:5000", Credential{Username: "local", Password: "p", Source: "flags"}},
		"other port": {"registry.local:5001", Credential{}},
		"no port":    {"registry.local", Credential{}},
		"API host":   {"registry-1.docker.io", Credential{}},
	}
	for name, tt := range tests {
		c, err := k.Credential(t.Context(), Target{Registry: tt.registry, Repository: "a/b"})
		if err != nil || c != tt.want {
			t.Errorf("%s: %s, %v, want %s", name, c, err, tt.want)
		}
	}
}
