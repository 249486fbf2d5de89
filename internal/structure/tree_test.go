package structure

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// root is the folder of the module, seen from this package.
const root = "../.."

// source is a Go file of the tree.
type source struct {
	path  string // from the root, with slashes
	lines int
	file  *ast.File
	fset  *token.FileSet
}

// dir returns the folder of the file, from the root.
func (s source) dir() string { return filepath.ToSlash(filepath.Dir(s.path)) }

// name returns the file's name in its folder.
func (s source) name() string { return filepath.Base(s.path) }

// isTest reports whether the file is compiled for tests only.
func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

// sources returns every Go file of the tree, other modules in it included.
//
// It reads each file by itself rather than asking the go command: go test then
// knows that its cached result is void when a file has changed.
func sources(t *testing.T) []source {
	t.Helper()
	var found []source
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name := entry.Name(); path != root && strings.HasPrefix(name, ".") || name == "testdata" {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, text, parser.ParseComments)
		if err != nil {
			return err
		}
		found = append(found, source{filepath.ToSlash(relative), bytes.Count(text, []byte("\n")), file, fset})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 200 {
		t.Fatalf("the tree has only %d Go files: is %s its root?", len(found), root)
	}
	return found
}
