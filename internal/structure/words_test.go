package structure

import (
	"go/ast"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// oldWords are the mechanical part of the rules for words in CONTRIBUTING.md. Each
// is a habit of this project's early English that made sentences hard to read: the
// reader had to guess a condition behind a person, or a noun behind a pronoun. A
// pattern is here only if it never matches a good sentence, so the list is short;
// the other rules are for reviewers.
var oldWords = []struct {
	pattern *regexp.Regexp
	instead string
}{
	{regexp.MustCompile(`(?i)\b(nobody|somebody|everybody|anybody)\b`), `the condition, such as "a body without readers"`},
	{regexp.MustCompile(`(?i)\bwh(o|om|ose|at)ever (asks|has|gets|sends|gives|knows|wants|logs|starts)\b`), `"every client that …"`},
	{regexp.MustCompile(`\b(for|to|of|by|from|with|than|all|those|as) who\b|\bWho [a-z]+s\b`), `"a client that …"`},
	{regexp.MustCompile(`\bof before\b`), `"previous"`},
	{regexp.MustCompile(`\bwhat it was\b|\bas it was( before\b|[.;])`), `"unchanged", "the same" or "previous"`},
	{regexp.MustCompile(`[a-z], for (it|he|she|they) [a-z]`), `"because"`},
	{regexp.MustCompile(`\b(has|have|had) not (the|a|an|any)\b`), `"does not have" or "without"`},
}

// exempt files quote the old words on purpose.
var exempt = map[string]bool{"internal/structure/words_test.go": true}

// badWords returns an explanation for each old word in the text.
func badWords(text string) (problems []string) {
	text = strings.Join(strings.Fields(text), " ") // sentences wrap
	for _, w := range oldWords {
		for _, at := range w.pattern.FindAllStringIndex(text, -1) {
			context := text[max(0, at[0]-30):min(len(text), at[1]+30)]
			problems = append(problems, strconv.Quote(text[at[0]:at[1]])+" in …"+context+"…: write "+w.instead)
		}
	}
	return problems
}

// TestWordsOfGo looks at the comments and strings of every Go file. The strings
// include all log lines, errors and help texts.
func TestWordsOfGo(t *testing.T) {
	comments, texts := 0, 0
	for _, s := range sources(t) {
		if exempt[s.path] {
			continue
		}
		report := func(pos token.Pos, text string) {
			for _, problem := range badWords(text) {
				t.Errorf("%s:%d: %s", s.path, s.fset.Position(pos).Line, problem)
			}
		}
		for _, group := range s.file.Comments {
			comments++
			report(group.Pos(), group.Text())
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			literal, ok := n.(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatalf("%s: %s: %v", s.path, literal.Value, err)
			}
			texts++
			report(literal.Pos(), text)
			return true
		})
	}
	if comments < 1000 || texts < 1000 {
		t.Errorf("only %d comments and %d strings were read", comments, texts)
	}
}

// TestWordsOfDocuments looks at the pages of docs, the other documents and the
// YAML files with comments. A quoted word is talked about and not used.
func TestWordsOfDocuments(t *testing.T) {
	quoted, hash := regexp.MustCompile("\"[^\"\n]*\"|`[^`\n]*`"), regexp.MustCompile(`(?m)^\s*#+ `)
	pages := 0
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
		switch filepath.Ext(path) {
		case ".md", ".yml", ".yaml":
		default:
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		pages++
		plain := hash.ReplaceAllString(quoted.ReplaceAllString(string(text), "…"), "")
		for _, problem := range badWords(plain) {
			t.Errorf("%s: %s", path, problem)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if pages < 10 {
		t.Errorf("only %d documents were read", pages)
	}
}

// TestOldWords keeps each pattern alive, and away from good sentences.
func TestOldWords(t *testing.T) {
	for _, bad := range []string{
		"a body that nobody reads", "Somebody else's layer", "gives it to whoever asks", "it is kept for who asks", "Who logs in gets a token",
		"the users of before stay", "a tag stays what it was", "trusted, for it is signed", "a blob that has not the size",
		"a body that\nnobody reads",
	} {
		if len(badWords(bad)) != 1 {
			t.Errorf("%q: %q, want one problem", bad, badWords(bad))
		}
	}
	for _, good := range []string{
		"it must never decide who may read what", "a listener, for the operator alone", "admins, who may end tokens", "it has not been read",
	} {
		if problems := badWords(good); len(problems) != 0 {
			t.Errorf("%q: %q, want no problem", good, problems)
		}
	}
}
