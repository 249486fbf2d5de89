package structure

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// papers are the documents whose paths must exist.
var papers = []string{"docs/architecture.md", "docs/decisions.md", "CONTRIBUTING.md", "SECURITY.md"}

// TestPapersNamePaths: every path in backticks and every link to a file of the
// tree leads to one. A word is a path if it ends in a suffix of a file of ours or
// has a slash after a folder of the root; the paths of URLs begin with a slash.
func TestPapersNamePaths(t *testing.T) {
	quoted := regexp.MustCompile("`([\\w.][\\w./-]*)`")
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	for _, paper := range papers {
		text, paths := document(t, paper), 0
		for _, match := range quoted.FindAllStringSubmatch(text, -1) {
			path := match[1]
			if !isPath(path) {
				continue
			}
			paths++
			if _, err := os.Stat(filepath.Join(root, path)); err != nil {
				t.Errorf("%s names %s, which does not exist", paper, path)
			}
		}
		for _, match := range link.FindAllStringSubmatch(text, -1) {
			paths++
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(paper), match[1])); err != nil {
				t.Errorf("%s links to %s, which does not exist", paper, match[1])
			}
		}
		if paths == 0 {
			t.Errorf("%s names no path: is the test still looking at the right things?", paper)
		}
	}
}

// isPath reports whether a word in backticks is meant as a path from the root.
func isPath(word string) bool {
	if word == "doc.go" {
		return false // of any package
	}
	switch filepath.Ext(word) {
	case ".go", ".md", ".yml", ".sh", ".json":
		return true
	}
	first, _, slash := strings.Cut(word, "/")
	if !slash {
		return false
	}
	info, err := os.Stat(filepath.Join(root, first))
	return err == nil && info.IsDir()
}
