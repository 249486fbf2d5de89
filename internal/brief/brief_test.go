package brief

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

type name string

// TestLong: no argument makes a message long, whatever its type and verb.
func TestLong(t *testing.T) {
	long := strings.Repeat("\x7f", 1<<20)
	for what, arg := range map[string]any{
		"text": long, "named text": name(long), "bytes": []byte(long), "error": errors.New(long),
		"broad letters": strings.Repeat("\U0010ffff", 1<<18), "no UTF-8": strings.Repeat("\xff", 1<<20), "words": strings.Repeat("é a", 1<<18),
		"a list": slices.Repeat([]string{long}, 3), "many": slices.Repeat([]name{"é"}, 1<<18), "one word": strings.Repeat("a", 1<<20),
		"wrapped": fmt.Errorf("read: %w", errors.New(long)),
	} {
		for _, verb := range []string{"%v", "%s", "%q", "%+q", "%x"} {
			got := Sprintf("want "+verb+": try again", arg)
			if len(got) > Max+8 || !strings.HasPrefix(got, "want ") || !utf8.ValidString(got) {
				t.Errorf("%s with %s: %d bytes: %.80q", what, verb, len(got), got)
			}
			if !strings.HasSuffix(got, ": try again") {
				t.Errorf("%s with %s: the remedy is cut off: %q", what, verb, got[max(0, len(got)-40):])
			}
		}
		if n := testing.AllocsPerRun(1, func() { _ = Sprintf("%q", arg) }); n > 100 {
			t.Errorf("%s: %v allocations", what, n)
		}
	}
}

// TestShort: short messages are as fmt has them.
func TestShort(t *testing.T) {
	var none *strings.Builder
	for format, args := range map[string][]any{
		"%q is %d of %.2q and %v":  {"é", 3, name("abc"), io.EOF},
		"%q %s %v":                 {[]string{"a", "b c"}, []byte("x"), none},
		"%[2]d %[1]t %w":           {true, 7},
		strings.Repeat("x", Max-3): nil,
		"%v %v":                    {nil, error(nil)},
	} {
		if got, want := Sprintf(format, args...), fmt.Sprintf(format, args...); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestNoPartOfAToken: where a text is cut, it does not end within a token.
func TestNoPartOfAToken(t *testing.T) {
	token := strings.Repeat("k5", 19) + "k"
	for at := Max - 2*len(token) - Max/3; at < Max; at++ {
		text := strings.Repeat("/", at) + token + strings.Repeat("/", 2*Max) + token + strings.Repeat("/", at)
		for _, part := range strings.FieldsFunc(Text(text, Max), func(r rune) bool { return !isWord(r) }) {
			if part != token {
				t.Fatalf("cut at %d: %q is left", at, part)
			}
		}
	}
}
