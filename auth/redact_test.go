package auth

import (
	"strings"
	"testing"
)

func TestRedact(t *testing.T) {
	token := strings.Repeat("a", 38) + "7"
	short := "~" + Token(token).Short()
	for text, want := range map[string]string{
		"":                                   "",
		token:                                short,
		"/v2/wt/" + token + "/library/x":     "/v2/wt/" + short + "/library/x",
		token + token:                        short + short,
		token + "bc":                         short + "bc",
		"A" + token + "=":                    "A" + short + "=",
		token[1:]:                            token[1:],
		token[:38] + "1":                     token[:38] + "1",
		"sha256:" + strings.Repeat("0f", 32): "sha256:" + strings.Repeat("0f", 32),
	} {
		if got := Redact(text); got != want {
			t.Errorf("Redact(%q) = %q, want %q", text, got, want)
		}
	}
}
