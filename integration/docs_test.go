package integration

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestSecurityDocumentNamesTests: a promise whose test is gone is no promise.
func TestSecurityDocumentNamesTests(t *testing.T) {
	text, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	list, err := exec.CommandContext(t.Context(), "go", "test", "-list", ".", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	there := strings.Fields(string(list))
	known := map[string]bool{}
	for _, name := range there {
		known[name] = true
	}
	names := regexp.MustCompile("`(Test[A-Za-z]+)`").FindAllStringSubmatch(string(text), -1)
	if len(names) < 10 {
		t.Errorf("%d tests are named", len(names))
	}
	for _, name := range names {
		if !known[name[1]] {
			t.Errorf("there is no %s", name[1])
		}
	}
}
