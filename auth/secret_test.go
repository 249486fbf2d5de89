package auth

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// TestNoSecretIsPrinted: no value that holds a secret shows it in any form, not even
// inside unexported fields, where fmt reads but calls no methods.
func TestNoSecretIsPrinted(t *testing.T) {
	const password, token = "hunter2-password", "hunter2-bearer-token"
	hash := hashOf(t, password)
	keychain := Static(map[string]Credential{"quay.io": {Username: "ann", Password: password, IdentityToken: token, RegistryToken: token}})
	everything, err := ParsePattern("*")
	if err != nil {
		t.Fatal(err)
	}
	passwords, err := NewPasswords(map[string]string{"ann": hash})
	if err != nil {
		t.Fatal(err)
	}
	wantLogin(t, passwords, "ann", password, nil) // now it is remembered
	bearer, err := StaticTokens(map[string]string{"ci": token})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(token))
	secrets := []string{"hunter2", hex.EncodeToString([]byte("hunter2")), hash, hash[30:], hex.EncodeToString(sum[:4]),
		strings.Trim(fmt.Sprint(sum[:4]), "[]"), strings.Trim(fmt.Sprint(passwords.key()[:4]), "[]"), hex.EncodeToString(passwords.key()[:4])}
	for name, value := range map[string]any{
		"static":      keychain,
		"first of":    FirstOf(keychain),
		"by identity": ByIdentity(func(string) Keychain { return keychain }),
		"matching":    Matching([]Pattern{everything}, keychain),
		"passwords":   passwords,
		"tokens":      bearer,
		"first":       FirstBearer(bearer),
		"caller":      Caller{Identity: "ci", Policy: Policy{Images: []Pattern{everything}, Credentials: []string{"a"}}},
	} {
		for _, v := range []any{value, &value, []any{value}, map[string]any{"x": value}, struct{ Open any }{value}, struct{ closed any }{value}} {
			var out bytes.Buffer
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
				fmt.Fprintf(&out, verb+"\n", v)
			}
			for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
				slog.New(h).Info("it", "v", v, slog.Group("g", "v", v))
			}
			if data, err := json.Marshal(v); err == nil {
				out.Write(data)
			} else {
				out.WriteString(err.Error())
			}
			for _, secret := range secrets {
				if strings.Contains(out.String(), secret) {
					t.Errorf("%s in a %T shows %s:\n%s", name, v, secret, out.String())
				}
			}
		}
	}
	if data, err := json.Marshal(passwords); err != nil || string(data) != "{}" {
		t.Errorf("passwords are %s, %v", data, err)
	}
}
