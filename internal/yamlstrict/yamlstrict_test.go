package yamlstrict

import (
	"errors"
	"strings"
	"testing"
)

type even string

func (e *even) UnmarshalText(text []byte) error {
	if len(text)%2 != 0 {
		return errors.New("odd")
	}
	*e = even(text)
	return nil
}

type sample struct {
	Words map[string]struct {
		Word even   `yaml:"word"`
		Text string `yaml:"text"`
	} `yaml:"words"`
	List []even `yaml:"list"`
}

// TestProblems: a value that was not understood is reported where it is, and
// checks learn that it means nothing.
func TestProblems(t *testing.T) {
	var d Decoder
	var s sample
	d.Decode("f", []byte("words:\n  a:\n    word: abc\n    text: x\n  b: {word: ab}\nlist: [ab, c]\n"), &s)
	d.Add("words.a.text", "words.a.text", "checked")
	d.Add("words.b.text", "words.b.text", "not given")
	want := "f:3: words.a.word: odd\nf:4: words.a.text: checked\nf:5: words.b.text: not given\nf:6: list[1]: odd"
	if err := d.Err(); err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	for key, want := range map[string]bool{"words.a.word": true, "words.a": true, "words": true, "words.a.text": false, "words.b": false, "list[0]": false, "list[1]": true} {
		if got := d.Unreliable(key); got != want {
			t.Errorf("Unreliable(%q) = %v", key, got)
		}
	}
}

// TestEnvironmentReplaces: what the file had below a key is gone, and its lines too.
func TestEnvironmentReplaces(t *testing.T) {
	var d Decoder
	var s sample
	d.Decode("f", []byte("words: {a: {word: ab}}\n"), &s)
	d.Environment("X_", map[string]string{"X_WORDS": "{b: {word: cd}}", "X_OTHER": "1", "Y": "2"}, func(string, string) bool { return false }, &s)
	d.Add("words.a.word", "words.a.word", "gone")
	if _, kept := s.Words["a"]; kept || s.Words["b"].Word != "cd" {
		t.Errorf("%+v", s)
	}
	if err := d.Err(); err == nil || !strings.Contains(err.Error(), "X_OTHER: unknown variable") || !strings.Contains(err.Error(), "X_WORDS: words.a.word: gone") {
		t.Errorf("got %v", err)
	}
}
