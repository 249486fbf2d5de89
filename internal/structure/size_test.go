package structure

import (
	"go/ast"
	"testing"
)

// The bounds of what can be read in one go.
const (
	maxFileLines     = 350
	maxFunctionLines = 80
)

func TestFileLength(t *testing.T) {
	for _, s := range sources(t) {
		if s.lines > maxFileLines {
			t.Errorf("%s has %d lines, more than %d: which part of it is a file of its own?", s.path, s.lines, maxFileLines)
		}
	}
}

func TestFunctionLength(t *testing.T) {
	for _, s := range sources(t) {
		if s.isTest() {
			continue
		}
		for _, decl := range s.file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			first, last := s.fset.Position(f.Pos()).Line, s.fset.Position(f.End()).Line
			if lines := last - first + 1; lines > maxFunctionLines {
				t.Errorf("%s:%d: %s has %d lines, more than %d", s.path, first, f.Name.Name, lines, maxFunctionLines)
			}
		}
	}
}
