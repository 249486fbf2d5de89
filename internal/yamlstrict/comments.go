package yamlstrict

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"reflect"
	"strings"
)

// Comments returns a describe function for Schemas: the comments of the fields of
// the struct types that the Go files of a directory declare.
func Comments(files fs.FS) (func(t reflect.Type, field string) string, error) {
	names, err := fs.Glob(files, "*.go")
	if err != nil {
		return nil, err
	}
	comments := map[string]string{} // by "Type.Field"
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("parse %s: %w", name, err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			declared, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if s, ok := declared.Type.(*ast.StructType); ok {
				collect(declared.Name.Name, s, comments)
			}
			return false
		})
	}
	return func(t reflect.Type, field string) string { return comments[t.Name()+"."+field] }, nil
}

func collect(name string, s *ast.StructType, comments map[string]string) {
	for _, f := range s.Fields.List {
		for _, field := range f.Names {
			comments[name+"."+field.Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
		}
	}
}
