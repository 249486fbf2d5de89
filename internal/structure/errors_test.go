package structure

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// refusing are the packages whose refusals clients read.
var refusing = []string{"api", "registry", "front", "containerconfig", "assemble", "auth", "augment"}

// verb matches a verb of package fmt.
var verb = regexp.MustCompile(`%[-+# 0]*[0-9]*(?:\.[0-9]+)?(?:\[[0-9]+\])?[a-zA-Z]`)

// refusal is a message of the code, as docs/errors.md has it: … in place of what
// differs.
type refusal struct{ where, status, code, pattern string }

// TestRefusalsAreDocumented compares docs/errors.md with the code: every message of
// front.Refuse and front.Limited, every error of augment, auth and their like that
// is mapped, and every message of front/errors.go has a row with its status and code,
// and no row is left that the code has not.
func TestRefusalsAreDocumented(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "docs", "errors.md"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, " | "); strings.HasPrefix(line, "| `") && len(cells) >= 4 {
			rows = append(rows, strings.TrimPrefix(cells[0], "| ")+" | "+cells[1]+" | "+cells[2])
		}
	}
	var want []string
	for _, r := range refusals(t, root) {
		want = append(want, fmt.Sprintf("`%s` | %s | %s", r.pattern, r.status, r.code))
	}
	slices.Sort(want)
	want = slices.Compact(want)
	for _, row := range want {
		if !slices.Contains(rows, row) {
			t.Errorf("docs/errors.md lacks a row\n| %s | what to do |", row)
		}
	}
	for _, row := range rows {
		if !slices.Contains(want, row) {
			t.Errorf("docs/errors.md has a row that the code has not\n| %s |", row)
		}
	}
}

// refusals returns the messages that the code refuses with.
func refusals(t *testing.T, root string) (found []refusal) {
	for _, dir := range refusing {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CallExpr:
					if r, ok := ofCall(dir, n); ok {
						found = append(found, r)
					}
				case *ast.CompositeLit:
					if r, ok := ofProblem(n); ok {
						found = append(found, r)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// ofCall returns the refusal that a call makes.
func ofCall(dir string, call *ast.CallExpr) (r refusal, ok bool) {
	name := nameOf(call.Fun)
	switch {
	case name == "Refuse" && len(call.Args) >= 3:
		r = refusal{dir, status(call.Args[0]), codeOf(call.Args[1]), pattern(call.Args[2])}
	case name == "Limited" && len(call.Args) >= 2:
		r = refusal{dir, "429", "TooManyRequests", pattern(call.Args[1])}
	case dir == "auth" && name == "refuse" && len(call.Args) >= 1:
		r = refusal{dir, "400", "Unsupported", pattern(call.Args[0])}
	case dir == "auth" && name == "deny" && len(call.Args) >= 1:
		r = refusal{dir, "403", "Denied", pattern(call.Args[0])}
	case (dir == "assemble" || dir == "augment" || dir == "containerconfig") && name == "Errorf" && isAugment(dir, call.Fun) && len(call.Args) >= 1:
		r = refusal{dir, "400", "Unsupported", pattern(call.Args[0])}
	default:
		return r, false
	}
	return r, r.pattern != "" && strings.Trim(r.pattern, "….:; ") != ""
}

// isAugment reports whether Errorf makes an *augment.Error.
func isAugment(dir string, fun ast.Expr) bool {
	if s, ok := fun.(*ast.SelectorExpr); ok {
		x, _ := s.X.(*ast.Ident)
		return x != nil && x.Name == "augment"
	}
	return dir == "augment"
}

// ofProblem returns the refusal of a Problem with a fixed message.
func ofProblem(lit *ast.CompositeLit) (r refusal, ok bool) {
	if id, isIdent := lit.Type.(*ast.Ident); !isIdent || id.Name != "Problem" {
		return r, false
	}
	for _, e := range lit.Elts {
		kv, isPair := e.(*ast.KeyValueExpr)
		if !isPair {
			return r, false
		}
		switch nameOf(kv.Key) {
		case "Status":
			r.status = status(kv.Value)
		case "Code":
			if call, isCall := kv.Value.(*ast.CallExpr); isCall {
				r.code = codeOf(call.Args[0])
			}
		case "Message":
			r.pattern = pattern(kv.Value)
		}
	}
	return r, strings.Trim(r.pattern, "….:; ") != ""
}

func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// statuses are the statuses that refusals have.
var statuses = map[string]string{
	"StatusBadRequest": "400", "StatusUnauthorized": "401", "StatusForbidden": "403", "StatusNotFound": "404", "StatusMethodNotAllowed": "405",
	"StatusRequestTimeout": "408", "StatusPreconditionFailed": "412", "StatusRequestEntityTooLarge": "413", "StatusUnsupportedMediaType": "415",
	"StatusRequestedRangeNotSatisfiable": "416", "StatusMisdirectedRequest": "421", "StatusTooManyRequests": "429",
	"StatusInternalServerError": "500", "StatusNotImplemented": "501", "StatusBadGateway": "502", "StatusServiceUnavailable": "503",
	"StatusGatewayTimeout": "504", "StatusInsufficientStorage": "507",
}

// status returns a status, or … for one that the cause decides.
func status(e ast.Expr) string {
	if s, ok := statuses[nameOf(e)]; ok {
		return s
	}
	return "…"
}

// codeOf returns the name of an error code, which clients get in capitals, or ….
func codeOf(e ast.Expr) string {
	if s, ok := e.(*ast.SelectorExpr); ok {
		return s.Sel.Name
	}
	if id, ok := e.(*ast.Ident); ok && ast.IsExported(id.Name) {
		return id.Name
	}
	return "…"
}

// pattern returns a format with … in place of everything that differs.
func pattern(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		if err != nil {
			return ""
		}
		text = strings.ReplaceAll(verb.ReplaceAllString(text, "…"), "%%", "%")
		return strings.NewReplacer("|", "¦", "`", "'", "\n", " ").Replace(text)
	case *ast.BinaryExpr:
		return pattern(e.X) + pattern(e.Y)
	case *ast.CallExpr, *ast.Ident, *ast.SelectorExpr:
		return "…"
	}
	return ""
}
