package auth

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// TestApart: a name that an issuer gives is never that of a token, a user or the
// server itself.
func TestApart(t *testing.T) {
	claims := bearerFunc(func(token string) (string, error) {
		if token == "forged" {
			return "", ErrWrongLogin
		}
		return token, nil
	})
	static, err := StaticTokens(map[string]string{"ci": "0123456789abcdef"})
	if err != nil {
		t.Fatal(err)
	}
	b := FirstBearer(static, Apart(claims, func(name string) bool { return name == "ci" || name == "ann" }))
	for token, want := range map[string]string{"0123456789abcdef": "ci", "bob": "bob", "ci": "", "ann": "", "*": "", "recipe:x": "", "platform:0": ""} {
		got, err := b.Identity(t.Context(), token)
		_, denied := errors.AsType[*Denied](err)
		if got != want || denied != (want == "") {
			t.Errorf("%s is %q, %v", token, got, err)
		}
	}
	if _, err := b.Identity(t.Context(), "forged"); !errors.Is(err, ErrWrongLogin) {
		t.Error(err)
	}
}

func TestHas(t *testing.T) {
	p, err := NewPasswords(map[string]string{"ann": hashOf(t, "x")})
	if err != nil || !p.Has("ann") || p.Has("bob") || p.Has("") {
		t.Errorf("%v", err)
	}
}

func TestStaticTokens(t *testing.T) {
	b, err := StaticTokens(map[string]string{"ci": "0123456789abcdef", "team-a": "fedcba9876543210"})
	if err != nil {
		t.Fatal(err)
	}
	both := FirstBearer(b, bearerFunc(func(token string) (string, error) {
		if token == "down" {
			return "", errors.New("the issuer is down")
		}
		return "", ErrWrongLogin
	}))
	for token, want := range map[string]string{"0123456789abcdef": "ci", "fedcba9876543210": "team-a"} {
		if got, err := both.Identity(t.Context(), token); err != nil || got != want {
			t.Errorf("%s, %v, want %s", got, err, want)
		}
	}
	for _, token := range []string{"", "0123456789abcde", "0123456789abcdeff"} {
		if got, err := both.Identity(t.Context(), token); !errors.Is(err, ErrWrongLogin) || got != "" {
			t.Errorf("%q is %q's, %v", token, got, err)
		}
	}
	if _, err := both.Identity(t.Context(), "down"); err == nil || errors.Is(err, ErrWrongLogin) {
		t.Errorf("an issuer that is down: %v", err)
	}
	if _, err := FirstBearer().Identity(t.Context(), "x"); !errors.Is(err, ErrWrongLogin) {
		t.Errorf("no bearer: %v", err)
	}
	for name, tokens := range map[string]map[string]string{
		"short":   {"ci": "hunter2"},
		"twice":   {"ci": "hunter2hunter2hunter2", "team-a": "hunter2hunter2hunter2"},
		"no name": {"": "hunter2hunter2hunter2"},
	} {
		if _, err := StaticTokens(tokens); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type bearerFunc func(token string) (string, error)

func (f bearerFunc) Identity(_ context.Context, token string) (string, error) { return f(token) }
