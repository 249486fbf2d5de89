package auth

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestParseKey(t *testing.T) {
	secret := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), 32))
	tests := map[string]struct{ text, err string }{
		"as openssl prints it": {secret + "\n", ""},
		"no line end":          {secret, ""},
		"carriage return":      {secret + "\r\n", ""},
		"longer":               {base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), 48)), ""},
		"empty":                {"", "0 bytes"},
		"short":                {base64.StdEncoding.EncodeToString([]byte("thirty-one bytes are not enough")), "31 bytes"},
		"not base64":           {"correct horse battery staple!", "not base64"},
		"no padding":           {strings.TrimRight(secret, "="), "not base64"},
		"two lines":            {secret + "\n" + secret, "more than one line"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			k, err := ParseKey([]byte(tt.text))
			if tt.err == "" {
				if err != nil || k.aead == nil {
					t.Fatalf("error %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("error %v, want %q", err, tt.err)
			}
			if text := strings.TrimSpace(tt.text); text != "" && strings.Contains(err.Error(), text) {
				t.Errorf("error %q shows the key", err)
			}
		})
	}
}

func TestKeyPrintsNoSecret(t *testing.T) {
	k := testKey(t, 0)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		if got := fmt.Sprintf(verb, k); got != "key(id 15)" {
			t.Errorf("%s prints %s", verb, got)
		}
	}
	if got := fmt.Sprintf("%+v", TokensOptions{Keys: []Key{k}}); !strings.Contains(got, "Keys:[key(id 15)]") {
		t.Errorf("options print %s", got)
	}
}

func sameKey(a, b Key) bool { return bytes.Equal(a.tokenMAC, b.tokenMAC) }

func TestLoadOrCreateKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "key")
	created, err := LoadOrCreateKey(path, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := LoadOrCreateKey(path, t.TempDir())
	if err != nil || !sameKey(created, loaded) {
		t.Errorf("second start: %v, same key %t", err, sameKey(created, loaded))
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if parsed, err := ParseKey(text); err != nil || !sameKey(created, parsed) {
		t.Errorf("the file does not hold the key: %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
	other, err := LoadOrCreateKey(filepath.Join(t.TempDir(), "key"), t.TempDir())
	if err != nil || sameKey(created, other) {
		t.Errorf("another directory: %v, same key %t", err, sameKey(created, other))
	}
}

func TestLoadOrCreateKeyAtOnce(t *testing.T) {
	for range 10 {
		path := filepath.Join(t.TempDir(), "key")
		keys := make([]Key, 8)
		var ready, done sync.WaitGroup
		ready.Add(len(keys))
		for i := range keys {
			done.Go(func() {
				ready.Done()
				ready.Wait()
				k, err := LoadOrCreateKey(path, t.TempDir())
				if err != nil {
					t.Error(err)
				}
				keys[i] = k
			})
		}
		done.Wait()
		for _, k := range keys {
			if !sameKey(k, keys[0]) {
				t.Fatal("two starts have two keys")
			}
		}
		if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
			t.Errorf("left behind: %v", entries)
		}
	}
}

// Of two processes, the second must keep the first one's file.
func TestCreateKeyKeepsExisting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	first, err := LoadOrCreateKey(path, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := createKey(path, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if again, err := LoadOrCreateKey(path, t.TempDir()); err != nil || !sameKey(first, again) {
		t.Errorf("the key was replaced, %v", err)
	}
}

func TestLoadOrCreateKeyRefuses(t *testing.T) {
	good := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), 32))
	tests := map[string]struct {
		text string
		mode os.FileMode
		err  string
	}{
		"others may read":   {good, 0o644, "chmod 600"},
		"others may write":  {good, 0o602, "chmod 600"},
		"group may read":    {good, 0o660, ""}, // a Kubernetes volume with an fsGroup
		"read only":         {good, 0o400, ""},
		"empty":             {"", 0o600, "0 bytes"},
		"something else":    {"hello world", 0o600, "not base64"},
		"too long to be it": {strings.Repeat(good, 1000), 0o600, "not base64"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			_, err := LoadOrCreateKey(path, t.TempDir())
			if tt.err == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v, want %q and the path", err, tt.err)
			}
			if err != nil && tt.text != "" && strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %q shows the key", err)
			}
			if text, _ := os.ReadFile(path); string(text) != tt.text {
				t.Error("the file was changed")
			}
		})
	}

	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreateKey(filepath.Join(file, "key"), t.TempDir()); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file as directory: %v", err)
	}
}
