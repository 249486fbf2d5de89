// Package brief keeps messages short, whatever they quote.
//
// What clients, registries and archives send is quoted in answers and in the log. A
// quoted text takes up to ten times its bytes, and an answer is kept until its reader
// has taken it, so each text is cut before it is formatted.
//
// Files: brief.go.
package brief

import (
	"fmt"
	"reflect"
	"strings"
)

// Max is how many bytes a text in a message, and a message as a whole, may have.
const Max = 1 << 10

// maxItems is how many items of a list a message shows.
const maxItems = 16

// Sprintf returns what fmt.Sprintf does, with long texts cut: each argument that is
// text, bytes, an error or a list of texts, and then the whole. It changes args, so that
// go vet still sees what is passed to fmt.
func Sprintf(format string, args ...any) string {
	for i, arg := range args {
		args[i] = cut(arg)
	}
	return Text(fmt.Sprintf(format, args...), Max)
}

func cut(arg any) any {
	if err, ok := arg.(error); ok {
		return cutError(err)
	}
	switch v := reflect.ValueOf(arg); v.Kind() {
	case reflect.String:
		if v.Len() > Max {
			return Text(v.String(), Max)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 && v.Len() > Max {
			return []byte(Text(string(v.Bytes()[:Max+1]), Max))
		}
		if v.Type().Elem().Kind() == reflect.String {
			return cutList(v)
		}
	}
	return arg
}

// cutError returns the error itself if its text is short. A nil pointer in an error
// is for fmt, which recovers.
func cutError(err error) any {
	if v := reflect.ValueOf(err); v.Kind() == reflect.Pointer && v.IsNil() {
		return err
	}
	if text := err.Error(); len(text) > Max {
		return Text(text, Max)
	}
	return err
}

func cutList(v reflect.Value) any {
	total := 0
	for i := range v.Len() {
		total += v.Index(i).Len() + 4
	}
	if total <= Max {
		return v.Interface()
	}
	list := make([]string, 0, min(v.Len(), maxItems+1))
	for i := range min(v.Len(), maxItems) {
		list = append(list, Text(v.Index(i).String(), Max/maxItems))
	}
	if v.Len() > maxItems {
		list = append(list, "…")
	}
	return list
}

// Text returns a text of at most limit bytes, or the beginning and the end of a longer
// one, which together have about limit bytes: the remedy often stands at the end.
// Where it is cut, no part of a word stays: a token without its last letter would no
// longer be recognized, and hidden, as one.
func Text(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	tail := limit / 3
	head := strings.TrimRightFunc(text[:limit-tail], isWord)
	rest := strings.TrimLeftFunc(text[len(text)-tail:], isWord)
	return strings.ToValidUTF8(head+" … "+rest, "")
}

// isWord reports what tokens consist of.
func isWord(r rune) bool { return r >= 'a' && r <= 'z' || r >= '2' && r <= '7' }
