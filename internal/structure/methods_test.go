package structure

import (
	"go/ast"
	"testing"
)

// maxMethods is how many methods a type of registry may have. The data plane is
// where one type that does everything would grow first.
const maxMethods = 10

func TestMethodsOfRegistry(t *testing.T) {
	methods := map[string]int{}
	for _, s := range sources(t) {
		if s.dir() != "registry" || s.isTest() {
			continue
		}
		for _, decl := range s.file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv != nil {
				methods[receiver(f.Recv.List[0].Type)]++
			}
		}
	}
	if len(methods) == 0 {
		t.Fatal("no type of registry has a method: where is the package?")
	}
	for name, n := range methods {
		if n > maxMethods {
			t.Errorf("registry.%s has %d methods, more than %d: what does it do besides its own job?", name, n, maxMethods)
		}
	}
}

// receiver returns the name of a receiver's type, without its pointer and its
// type parameters.
func receiver(x ast.Expr) string {
	switch x := x.(type) {
	case *ast.StarExpr:
		return receiver(x.X)
	case *ast.IndexExpr:
		return receiver(x.X)
	case *ast.IndexListExpr:
		return receiver(x.X)
	case *ast.Ident:
		return x.Name
	}
	return "?"
}
