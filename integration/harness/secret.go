package harness

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"
)

// secretMark is in every secret that the tests use, so that one can be found
// wherever it should not be.
const secretMark = "wpcanary"

// SecretFor makes a unique password or token.
func SecretFor(label string) string {
	random := make([]byte, 8)
	_, _ = rand.Read(random) // never fails
	return fmt.Sprintf("%s-%s-%x", secretMark, label, random)
}

// fixedSecret is in the passwords of tests that need the same password each time.
const fixedSecret = "hunter"

// secretForms are the forms in which a secret may be written down: plain,
// URL-encoded, hexadecimal, and base64 in each of its three alignments.
var secretForms = func() [][]byte {
	var forms []string
	for _, word := range []string{secretMark, fixedSecret} {
		forms = append(forms, word, url.QueryEscape(word), hex.EncodeToString([]byte(word)))
		for shift := range 3 {
			padded := append(make([]byte, shift), word...)
			// Only the characters that do not depend on the bytes around the
			// secret.
			first, last := (shift*8+5)/6, len(padded)*8/6
			for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
				forms = append(forms, encoding.EncodeToString(padded)[first:last])
			}
		}
	}
	slices.Sort(forms)
	var list [][]byte
	for _, form := range slices.Compact(forms) {
		list = append(list, []byte(form))
	}
	return list
}()

// imageToken matches the token in an image name. Logs and files may only have its
// hash.
var imageToken = regexp.MustCompile(`^wt/[a-z2-7]{39}\b`)

// Leaks returns the places in a text that have a secret.
func Leaks(text []byte) []string {
	var found []string
	for _, form := range secretForms {
		if i := bytes.Index(text, form); i >= 0 {
			found = append(found, fmt.Sprintf("%q", text[max(0, i-60):min(len(text), i+100)]))
		}
	}
	// Searching with the expression alone would take minutes for all the files of
	// all tests.
	for rest := text; ; rest = rest[1:] {
		i := bytes.Index(rest, []byte("wt/"))
		if i < 0 {
			return found
		}
		rest = rest[i:]
		if match := imageToken.Find(rest); match != nil {
			return append(found, string(match))
		}
	}
}

// searched holds files without secrets, by path. Servers that share a storage
// each search it when they stop, so searched saves the repetition.
var searched sync.Map

type fileState struct {
	size     int64
	modified time.Time
}

// unsearched reports whether a file is new or has changed since the last search.
func unsearched(path string, info fs.FileInfo) bool {
	state := fileState{info.Size(), info.ModTime()}
	before, _ := searched.Swap(path, state)
	return before != any(state)
}

// checkLeaks fails the test if the server's log, metrics or storage has a secret.
func (p *Proxy) checkLeaks(t *testing.T, metrics []byte) {
	t.Helper()
	for _, leak := range Leaks([]byte(p.Log.String())) {
		t.Errorf("the log has a secret: %s", leak)
	}
	for _, leak := range Leaks(metrics) {
		t.Errorf("the metrics have a secret: %s", leak)
	}
	err := filepath.WalkDir(p.Dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if info, err := e.Info(); err != nil || !unsearched(path, info) {
			return err
		}
		text, err := os.ReadFile(path)
		for _, leak := range Leaks(text) {
			t.Errorf("%s has a secret: %s", path, leak)
		}
		return err
	})
	if err != nil {
		t.Errorf("look for secrets: %v", err)
	}
}
