package structure

import (
	"maps"
	"regexp"
	"slices"
	"testing"
)

// TestFileLists: the package comment of a package that has several files says what
// is in each. Every file is named there, and every name is a file's. Tests may be
// named too, and then must exist.
func TestFileLists(t *testing.T) {
	type folder struct {
		product, tests map[string]bool
		comment        string // the package comment
	}
	folders := map[string]*folder{}
	for _, s := range sources(t) {
		f := folders[s.dir()]
		if f == nil {
			f = &folder{product: map[string]bool{}, tests: map[string]bool{}}
			folders[s.dir()] = f
		}
		if s.isTest() {
			f.tests[s.name()] = true
			continue
		}
		f.comment += s.file.Doc.Text()
		if s.name() != "doc.go" {
			f.product[s.name()] = true
		}
	}
	// Not "auth/key.go": a package comment may point to a file elsewhere.
	word := regexp.MustCompile(`(^|[^/\w.-])(\w[\w-]*\.go)\b`)
	for _, dir := range slices.Sorted(maps.Keys(folders)) {
		f := folders[dir]
		named := map[string]bool{}
		for _, match := range word.FindAllStringSubmatch(f.comment, -1) {
			named[match[2]] = true
		}
		for _, name := range slices.Sorted(maps.Keys(named)) {
			if !f.product[name] && !f.tests[name] && name != "doc.go" {
				t.Errorf("the package comment of %s names %s, which does not exist", dir, name)
			}
		}
		if len(f.product) < 2 {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(f.product)) {
			if !named[name] {
				t.Errorf("the package comment of %s does not name %s", dir, name)
			}
		}
	}
}
