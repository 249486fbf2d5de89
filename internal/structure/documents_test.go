package structure

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecurityDocumentNamesTests: a promise whose test is gone is no promise.
func TestSecurityDocumentNamesTests(t *testing.T) {
	known := map[string]bool{}
	for _, s := range sources(t) {
		if !s.isTest() {
			continue
		}
		for _, decl := range s.file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil {
				known[f.Name.Name] = true
			}
		}
	}
	names := regexp.MustCompile("`(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(document(t, "docs/security.md"), -1)
	if len(names) < 10 {
		t.Errorf("docs/security.md names only %d tests", len(names))
	}
	for _, name := range names {
		if !known[name[1]] {
			t.Errorf("docs/security.md names %s, which does not exist", name[1])
		}
	}
}

// TestMapNamesEveryPackage: the map is complete. The folders of integration are
// one place on it.
func TestMapNamesEveryPackage(t *testing.T) {
	text := document(t, "docs/architecture.md")
	seen := map[string]bool{}
	for _, s := range sources(t) {
		dir := s.dir()
		if strings.HasPrefix(dir, "integration/") || seen[dir] {
			continue
		}
		seen[dir] = true
		if !strings.Contains(text, "`"+dir+"`") {
			t.Errorf("docs/architecture.md does not name the package `%s`", dir)
		}
	}
}

func document(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
