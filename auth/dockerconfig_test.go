package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func basic(userPassword string) string {
	return base64.StdEncoding.EncodeToString([]byte(userPassword))
}

func writeConfig(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDockerConfig(t *testing.T) {
	hub := Target{Registry: "docker.io", Repository: "library/ubuntu"}
	local := Target{Registry: "registry.local:5000", Repository: "a/b"}
	ann := Credential{Username: "ann", Password: "pw:1", Source: "docker config"}
	tests := map[string]struct {
		config string
		target Target
		want   Credential
	}{
		"Docker Hub":           {`{"auths":{"https://index.docker.io/v1/":{"auth":%q}}}`, hub, ann},
		"Docker Hub, podman":   {`{"auths":{"docker.io":{"auth":%q}}}`, hub, ann},
		"Docker Hub, v2":       {`{"auths":{"https://index.docker.io/v2/":{"auth":%q}}}`, hub, ann},
		"Docker Hub, API host": {`{"auths":{"registry-1.docker.io":{"auth":%q}}}`, hub, ann},
		"Docker's entry first": {`{"auths":{"docker.io":{"auth":"eDp5"},"https://index.docker.io/v1/":{"auth":%q}}}`, hub, ann},
		"host and port":        {`{"auths":{"registry.local:5000":{"auth":%q}}}`, local, ann},
		"legacy URL":           {`{"auths":{"https://registry.local:5000/v1/":{"auth":%q}}}`, local, ann},
		"other port":           {`{"auths":{"registry.local:5001":{"auth":%q}}}`, local, Credential{}},
		"not for Docker Hub":   {`{"auths":{"registry.local:5000":{"auth":%q}}}`, hub, Credential{}},
		"identity token":       {`{"auths":{"registry.local:5000":{"identitytoken":"idtok"}}}`, local, Credential{IdentityToken: "idtok", Source: "docker config"}},
		"registry token":       {`{"auths":{"registry.local:5000":{"registrytoken":"regtok"}}}`, local, Credential{RegistryToken: "regtok", Source: "docker config"}},
		"entry without auth":   {`{"auths":{"registry.local:5000":{}}}`, local, Credential{}},
		"empty file":           {``, local, Credential{}},
		"no auths":             {`{"currentContext":"x"}`, local, Credential{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.json")
			if strings.Contains(tt.config, "%q") {
				tt.config = fmt.Sprintf(tt.config, basic("ann:pw:1"))
			}
			writeConfig(t, path, tt.config)
			k, err := DockerConfig(path)
			if err != nil {
				t.Fatal(err)
			}
			got, err := k.Credential(t.Context(), tt.target)
			if err != nil || got != tt.want {
				t.Errorf("%s, %v, want %s", got, err, tt.want)
			}
		})
	}
}

func TestDockerConfigChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	k, err := DockerConfig(path)
	if err != nil {
		t.Fatalf("no file: %v", err)
	}
	users := []string{"", "ann", "bob", ""}
	for i, user := range users {
		switch {
		case user != "":
			writeConfig(t, path, fmt.Sprintf(`{"auths":{"quay.io":{"auth":%q}}}`, basic(user+":p")))
		case i > 0:
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		if c, err := k.Credential(t.Context(), Target{Registry: "quay.io"}); err != nil || c.Username != user {
			t.Errorf("step %d: %s, %v, want %q", i, c, err, user)
		}
	}
	writeConfig(t, path, `{"auths":`)
	if c, err := k.Credential(t.Context(), Target{Registry: "quay.io"}); err == nil || !c.IsZero() {
		t.Errorf("damaged later: %s, %v", c, err)
	}
}

func TestDockerConfigRefuses(t *testing.T) {
	if _, err := DockerConfig(""); err == nil {
		t.Error("empty path")
	}
	if _, err := DockerConfig(t.TempDir()); err == nil {
		t.Error("a directory")
	}
	for _, config := range []string{`{`, `[]`, `{"auths":["hunter2"]}`, `{"credsStore":1}`} {
		path := filepath.Join(t.TempDir(), "config.json")
		writeConfig(t, path, config)
		if k, err := DockerConfig(path); err == nil || k != nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", config, err)
		}
	}
	for _, entry := range []string{
		`{"auth":"` + basic("hunter2 without a colon") + `"}`, `{"auth":"hunter2!"}`, `"hunter2"`, `{"password":["hunter2"]}`,
	} {
		path := filepath.Join(t.TempDir(), "config.json")
		writeConfig(t, path, `{"auths":{"quay.io":`+entry+`}}`)
		k, err := DockerConfig(path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = k.Credential(t.Context(), Target{Registry: "quay.io"})
		if err == nil || !strings.Contains(err.Error(), "quay.io") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", entry, err)
		}
	}
}

// helper puts docker-credential-<name> in front of the path.
func helper(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-"+name), []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

func TestDockerConfigHelper(t *testing.T) {
	helper(t, "works", `read -r server
case "$server" in
https://index.docker.io/v1/) echo '{"ServerURL":"x","Username":"hub","Secret":"hunter2"}' ;;
quay.io) echo '{"ServerURL":"x","Username":"<token>","Secret":"idtok"}' ;;
locked.io) echo 'the keychain is locked'; exit 1 ;;
garbage.io) echo 'hunter2' ;;
slow.io) exec sleep 60 ;;
*) echo 'credentials not found in native keychain'; exit 1 ;;
esac
`)
	path := filepath.Join(t.TempDir(), "config.json")
	writeConfig(t, path, `{"credsStore":"works","credHelpers":{"gone.io":"does-not-exist"}}`)
	k, err := DockerConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		want Credential
		err  string
	}{
		"docker.io":  {Credential{Username: "hub", Password: "hunter2", Source: "docker config"}, ""},
		"quay.io":    {Credential{IdentityToken: "idtok", Source: "docker config"}, ""},
		"other.io":   {Credential{}, ""},
		"locked.io":  {Credential{}, "docker-credential-works for locked.io: the keychain is locked"},
		"garbage.io": {Credential{}, "docker-credential-works for garbage.io"},
		"gone.io":    {Credential{}, "docker-credential-does-not-exist for gone.io"},
	}
	for registry, tt := range tests {
		c, err := k.Credential(t.Context(), Target{Registry: registry})
		if c != tt.want || (err == nil) != (tt.err == "") {
			t.Errorf("%s: %s, %v", registry, c, err)
		}
		if err != nil && (!strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%s: error %q, want %q", registry, err, tt.err)
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.Credential(ctx, Target{Registry: "slow.io"}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
