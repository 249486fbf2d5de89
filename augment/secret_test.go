package augment

import (
	"strings"
	"testing"
)

// TestSecretValues: no error about a recipe has the value of a variable or an argument.
func TestSecretValues(t *testing.T) {
	for name, r := range map[string]Recipe{
		"NUL in a value": {Env: []string{"A=1", "TOKEN=s3cr3t\x00"}}, "no key": {Env: []string{"s3cr3t"}}, "empty key": {Env: []string{"=s3cr3t"}},
		"NUL in an argument": {Cmd: []string{"login", "s3cr3t\x00"}}, "NUL in the entrypoint": {Entrypoint: []string{"s3cr3t\x00"}},
		"NUL in the directory": {WorkingDir: "/s3cr3t\x00"},
	} {
		if err := r.Validate(); err == nil || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
