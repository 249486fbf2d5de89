package auth

import "strings"

// Redact returns the text with everything that looks like a Token replaced by "~"
// and its Short. Tokens occur in request paths, and tokens of another server in
// the names of images that are pulled through that server.
func Redact(text string) string {
	var redacted strings.Builder
	start, kept := 0, 0
	for i := range len(text) {
		if c := text[i]; (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			start = i + 1
			continue
		}
		if i+1-start < TokenLength {
			continue
		}
		redacted.WriteString(text[kept:start])
		redacted.WriteString("~" + Token(text[start:i+1]).Short())
		start, kept = i+1, i+1
	}
	if kept == 0 {
		return text
	}
	return redacted.String() + text[kept:]
}
